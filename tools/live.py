"""A page on this machine on which a trained policy acts: the observation beside the generated video.

    python -m tools.live --run checkpoints/faucet          # the same as ./run live; then open the address it prints

The server answers this machine only. Policy and simulator run in one thread, since an OpenGL context belongs to the
thread that made it.
"""

import base64
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

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
OFFERED = {"task": TASKS, "shift": SHIFTS, "scene": range(EPISODES_PER_SEED), "steps": range(65),
           "execute": range(1, 513)}  # fmt: skip


def play(policy, env, scene, shift, prompt, steps, execute):
    """The episode of evaluate.py --video-steps `steps`: dicts of text and, at every fourth step, of a picture, the
    observation beside the generated video. prompt: empty for the scene's own.
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


class Server(ThreadingHTTPServer):
    """The policy, and the one thread in which it acts."""

    def __init__(self, run, port):
        self.policy, trained = VideoPolicy.load(run / "policy.pt"), trained_tasks(run)
        check_robot(run, self.policy.config)
        tasks = {name: {"prompt": task.any_prompt, "trained": name in trained} for name, task in TASKS.items()}
        self.choices = {"tasks": tasks, "shifts": SHIFTS}  # what the page offers
        self.pool, self.playing = ThreadPoolExecutor(1), None
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except OSError as error:
            raise InputError(f"--port {port}: {error.strerror}; choose another one") from None

    def perform(self, choice, send, task, **arguments):
        """Play one episode and send(event) each of its events, until it ends or `playing` is another choice."""
        config = self.policy.config
        env = shared_env(task, config.cameras, config.image_size, config.drawn_size)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for event in play(self.policy, env, **arguments):
                if self.playing is not choice:
                    break
                send(event | {"warning": str(caught[0].message) if caught else ""})


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, /choices what it offers, /episode?task=...&scene=... a stream of events."""

    def do_GET(self):
        url = urlsplit(self.path)
        if self.headers.get("Host", "").split(":")[0] not in ("127.0.0.1", "localhost"):
            self.send_error(403, "this machine only")  # another site's page may have been given this address
        elif url.path == "/":
            self.answer("text/html; charset=utf-8", PAGE.read_bytes())
        elif url.path == "/choices":
            self.answer("application/json", json.dumps(self.server.choices).encode())
        elif url.path == "/episode":
            self.stream(url.query)
        else:
            self.send_error(404)

    def answer(self, kind, body=b""):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def send(self, event):
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def stream(self, query):
        """Server-sent events until the episode ends, another begins or the page is closed."""
        choice = dict(parse_qsl(query, keep_blank_values=True))
        if wrong := [name for name, offered in OFFERED.items() if choice.get(name) not in map(str, offered)]:
            return self.send_error(400, f"not offered: {wrong[0]}")
        choice |= {name: int(choice[name]) for name in ("scene", "steps", "execute")}
        self.answer("text/event-stream")
        self.server.playing = choice  # ends the running episode
        try:
            self.server.pool.submit(self.server.perform, choice, self.send, **choice).result()
        except OSError:
            pass  # the page was closed
        except Exception as error:  # shown on the page
            self.send({"text": f"error: {error}", "done": True})

    def log_message(self, *_):
        """Print nothing."""


def main():
    parser = Parser(prog="python -m tools.live", description="Watch a policy act, in a browser.", epilog=__doc__)
    parser.add_argument("--run", type=Path, default=Path("checkpoints/faucet"), help="a run folder of train.py")
    parser.add_argument("--port", type=int_range(0, 65535), default=8765, help="port of the address; 0: a free one")
    args = parser.parse_args()
    torch.set_num_threads(1)  # so that sums round as in evaluate.py
    server = Server(args.run, args.port)
    print(f"open http://127.0.0.1:{server.server_port} in a browser; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    finally:
        server.playing = None


if __name__ == "__main__":
    command(main)
