"""A page on this machine on which a trained policy acts: the observation beside the generated video.

    python -m tools.live --run checkpoints/faucet          # the same as ./run live; then open the address it prints

Choose task, scene, shift and denoising steps, edit the prompt, and press start. The server answers this machine only.
Policy and simulator run in one thread, since an OpenGL context belongs to the thread that made it.
"""

import base64
import json
import queue
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import imageio.v2 as imageio
import torch

from evaluate import EvalConfig, check_robot, closed_loop, frame_at, trained_tasks
from sim import shared_env
from sim.record import EPISODES_PER_SEED, evaluation_seed
from sim.task import SHIFTS
from sim.tasks import TASKS
from util.cli import Parser, command, int_range
from util.figures import side_by_side
from util.files import InputError
from videopolicy import VideoPolicy

PAGE = Path(__file__).with_name("live.html")
NUMBERS = {"scene": range(EPISODES_PER_SEED), "steps": range(65), "execute": range(1, 513)}  # what the page may send


def play(policy, env, scene, shift, prompt, steps, execute):
    """One episode: dicts of text, and of a picture, the observation beside the generated video, at every fourth step.

    prompt: empty for the scene's own. The episode is that of evaluate.py with --video-steps steps.
    """
    seed, config = evaluation_seed(scene), EvalConfig(execute=execute, video_steps=steps)
    env.reset(seed, shift)
    prompt, decisions = prompt.strip() or env.prompt, 0
    for decision, k in closed_loop(env, policy, seed, config, prompt):
        decisions += k == 1
        if (frame := frame_at(k, decision.video, policy.config.video_stride)) is not None:
            text = f"step {env.timestep} of {env.task.horizon}, decision {decisions}: {decision.milliseconds:.0f} ms"
            image = imageio.imwrite("<bytes>", side_by_side(env.observe(), frame), format="png")
            yield {"picture": base64.b64encode(image).decode(), "text": text, "prompt": prompt}
    yield {"text": f"{'success' if env.success() else 'no success'} after {env.timestep} steps", "done": True}


class Stage:
    """The policy, and the one thread in which it acts."""

    def __init__(self, run):
        self.policy = VideoPolicy.load(run / "policy.pt")
        check_robot(run, self.policy.config)
        trained, self.pool, self.stop = trained_tasks(run), ThreadPoolExecutor(1), threading.Event()
        tasks = {name: {"prompt": task.any_prompt, "trained": name in trained} for name, task in TASKS.items()}
        self.choices = {"tasks": tasks, "shifts": SHIFTS}  # what the page offers

    def start(self, query):
        """End the running episode and begin another -> a queue of its events, what stops it; or ValueError."""
        choice = {name: query.get(name, [""])[0] for name in ("task", "shift", "prompt", *NUMBERS)}
        choice |= {name: int(choice[name]) for name in NUMBERS}
        good = choice["task"] in TASKS and choice["shift"] in SHIFTS and len(choice["prompt"]) <= 400
        if not (good and all(choice[name] in allowed for name, allowed in NUMBERS.items())):
            raise ValueError("no such task or shift, a number out of range, or more than 400 characters of prompt")
        self.stop.set()
        self.stop, events = threading.Event(), queue.Queue()
        self.pool.submit(self.perform, choice, self.stop, events)
        return events, self.stop

    def perform(self, choice, stop, events):
        """Put the events of one episode into the queue, in the simulator's thread."""
        try:
            task, c = choice.pop("task"), self.policy.config
            env = shared_env(task, c.cameras, c.image_size)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for event in play(self.policy, env, **choice):
                    if stop.is_set():
                        break
                    events.put(event | {"warning": str(caught[0].message) if caught else ""})
        except Exception as error:  # shown on the page: this thread must go on with the next episode
            events.put({"text": f"error: {error}", "done": True})
        events.put(None)


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, /choices what it offers, /episode?task=...&scene=... a stream of events."""

    def do_GET(self):
        url = urlsplit(self.path)
        if self.headers.get("Host", "").split(":")[0] not in ("127.0.0.1", "localhost"):
            self.send_error(403, "this machine only")  # another site's page may have been given this address
        elif url.path == "/":
            self.answer("text/html; charset=utf-8", PAGE.read_bytes())
        elif url.path == "/choices":
            self.answer("application/json", json.dumps(self.server.stage.choices).encode())
        elif url.path == "/episode":
            self.stream(parse_qs(url.query))
        else:
            self.send_error(404)

    def answer(self, kind, body=b""):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, query):
        """Server-sent events until the episode ends or the page is closed."""
        try:
            events, stop = self.server.stage.start(query)
        except ValueError as error:
            return self.send_error(400, str(error)[:200])
        self.answer("text/event-stream")
        try:
            while (event := events.get()) is not None:
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        except OSError:  # the page was closed
            stop.set()

    def log_message(self, *_):
        """Print nothing."""


def main():
    parser = Parser(prog="python -m tools.live", description="Watch a policy act, in a browser.", epilog=__doc__)
    parser.add_argument("--run", type=Path, default=Path("checkpoints/faucet"), help="a run folder of train.py")
    parser.add_argument("--port", type=int_range(0, 65535), default=8765, help="port of the address; 0: a free one")
    args = parser.parse_args()
    torch.set_num_threads(1)  # so that sums round as in evaluate.py
    stage = Stage(args.run)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", args.port), Handler)
    except OSError as error:
        raise InputError(f"--port {args.port}: {error.strerror}; choose another one") from None
    server.daemon_threads, server.stage = True, stage
    print(f"open http://127.0.0.1:{server.server_port} in a browser; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    finally:
        stage.stop.set()


if __name__ == "__main__":
    command(main)
