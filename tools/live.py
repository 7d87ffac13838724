"""A page on this machine where a trained policy acts while you watch: reality beside its dream, scene by scene.

    python -m tools.live --run checkpoints/faucet          # ./run live does the same; then open the address it prints

Choose task, scene, shift and passes, edit the sentence, and press start. The server listens to this machine alone. It
has one simulator, in a thread of its own, since an OpenGL context belongs to the thread that made it.
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

from evaluate import EvalConfig, check_robot, closed_loop, dreamed_at, trained_tasks
from sim import shared_env
from sim.record import evaluation_seed
from sim.task import SHIFTS
from sim.tasks import TASKS
from util.cli import Parser, command, int_range
from util.figures import side_by_side
from util.files import InputError, check_fields
from videopolicy import VideoPolicy

PAGE = Path(__file__).with_name("live.html")
CHOICES = {"task": (str, 1, 64), "shift": (str, 1, 64), "prompt": (str, 0, 400), "scene": (int, 0, 99_999),
           "passes": (int, 1, 64), "execute": (int, 1, 512)}  # fmt: skip


def play(policy, env, scene, shift, prompt, passes, execute):
    """One episode as it happens: dicts of text, and of a picture, reality beside the dream, at every fourth step.

    prompt: blank for the scene's own sentence. The same scene and noise as in evaluate.py with --video-steps
    passes - 1, so that success is the same, too.
    """
    seed, config = evaluation_seed(scene), EvalConfig(execute=execute, video_steps=passes - 1)
    env.reset(seed, shift)
    prompt, decisions = prompt.strip() or env.prompt, 0
    for decision, k in closed_loop(env, policy, seed, config, prompt):
        decisions += k == 1
        if (dreamed := dreamed_at(k, decision.dream, policy.config.video_stride)) is not None:
            took = f"decision {decisions}: {decision.milliseconds:.0f} ms"
            told = f"step {env.timestep} of at most {env.task.horizon}, {took}"
            yield {"picture": png(side_by_side(env.observe(), dreamed)), "text": told, "prompt": prompt}
    yield {"text": f"{'success' if env.success() else 'no success'} after {env.timestep} steps", "done": True}


def png(image):
    """A picture (H, W, 3) as text for a page."""
    return base64.b64encode(imageio.imwrite("<bytes>", image, format="png")).decode()


class Stage:
    """The policy, and the one thread in which both work."""

    def __init__(self, run):
        self.policy = VideoPolicy.load(run / "policy.pt")
        check_robot(run, self.policy.config)
        self.trained, self.pool = trained_tasks(run), ThreadPoolExecutor(1)
        self.stop = threading.Event()

    def choices(self):
        """What the page offers."""
        tasks = {name: {"prompt": task.any_prompt, "trained": name in self.trained} for name, task in TASKS.items()}
        return {"tasks": tasks, "shifts": SHIFTS}

    def start(self, query):
        """Begin an episode, ending the one on the stage -> a queue of what happens. ValueError for a bad choice."""
        asked = {name: query.get(name, [""])[0] for name in CHOICES}
        asked |= {name: int(asked[name]) for name, (kind, *_) in CHOICES.items() if kind is int}
        check_fields(asked, CHOICES)
        if asked["task"] not in TASKS or asked["shift"] not in SHIFTS:
            raise ValueError("no such task or shift")
        self.stop.set()
        self.stop, happens = threading.Event(), queue.Queue()
        self.pool.submit(self.perform, asked, self.stop, happens)
        return happens, self.stop

    def perform(self, asked, stop, happens):
        """One episode into the queue, in the simulator's thread."""
        try:
            task, c = asked.pop("task"), self.policy.config
            env = shared_env(task, c.cameras, c.image_size)
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                for event in play(self.policy, env, **asked):
                    if stop.is_set():
                        break
                    happens.put(event | {"warning": str(heard[0].message) if heard else ""})
        except Exception as error:  # whatever it is belongs on the page: this thread must go on with the next episode
            happens.put({"text": f"error: {error}", "done": True})
        happens.put(None)


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, /choices what it offers, /episode?task=...&scene=... a stream of events."""

    def do_GET(self):
        url = urlsplit(self.path)
        if self.headers.get("Host", "").split(":")[0] not in ("127.0.0.1", "localhost"):
            self.send_error(403, "this machine only")  # a page elsewhere that was given this machine's address
        elif url.path == "/":
            self.answer("text/html; charset=utf-8", PAGE.read_bytes())
        elif url.path == "/choices":
            self.answer("application/json", json.dumps(self.server.stage.choices()).encode())
        elif url.path == "/episode":
            self.stream(parse_qs(url.query))
        else:
            self.send_error(404)

    def answer(self, kind, body=b""):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def stream(self, query):
        """Server-sent events until the episode ends or the page goes away."""
        try:
            happens, stop = self.server.stage.start(query)
        except ValueError as error:
            self.send_error(400, str(error)[:200])
            return
        self.answer("text/event-stream")
        try:
            while (event := happens.get()) is not None:
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        except OSError:  # the page was closed
            stop.set()

    def log_message(self, *_):
        """The terminal stays quiet."""


def main():
    parser = Parser(prog="live.py", description="Watch a policy act in a browser.", epilog=__doc__)
    parser.add_argument("--run", type=Path, default=Path("checkpoints/faucet"), help="a run folder of train.py")
    parser.add_argument("--port", type=int_range(0, 65535), default=8765, help="of the address; 0 takes a free one")
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
