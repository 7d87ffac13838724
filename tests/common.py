"""Small things that several tests build: a policy of a few thousand weights, batches, demonstration files."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import torch

from model.action_head import HeadConfig
from videopolicy import Batch, Config, VideoPolicy

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)  # the networks of most tests are so small that a second thread mostly waits
CONFIG = Config(  # p_sigma_max=0: most inputs show the future, so that its gradients and leaks can be seen
    cameras=("left", "right"), image_size=16, video_frames=3, video_stride=2, action_horizon=5, action_size=4,
    action_space="delta", patch=2, widths=(32, 64), attention=(False, True), embed=16, prompt_words=6,
    prompt_width=32, head=HeadConfig(squeeze=4, grid=2, width=24), action_steps=3, p_sigma_max=0.0,
)  # fmt: skip
STATS = {"video_std": 0.3, "action_low": [-1.0, -2.0, -3.0, -4.0], "action_high": [1.0] * 4}
VOCAB = ("close", "drawer", "open", "the")


def policy(seed=0, config=CONFIG, awake=True, stats=STATS):
    """A small policy; awake: its zero-initialised layers are random too, so that everything influences everything."""
    torch.manual_seed(seed)
    made = VideoPolicy(config, VOCAB, stats)
    if awake:
        with torch.no_grad():
            for p in made.parameters():
                if p.ndim > 1 and not p.any():
                    p.normal_(std=0.1)
    return made


def batch(size=3, seed=0, config=CONFIG):
    rng = torch.Generator().manual_seed(seed)
    c, views = config, len(config.cameras)
    pixels = (3, c.image_size, c.image_size)
    return Batch(
        current=torch.randint(256, (size, views, *pixels), generator=rng, dtype=torch.uint8),
        future=torch.randint(256, (size, c.video_frames, views, *pixels), generator=rng, dtype=torch.uint8),
        actions=torch.rand(size, c.action_horizon, c.action_size, generator=rng) * 2 - 1,
        pad=torch.zeros(size, c.action_horizon, dtype=torch.bool),
        prompts=["close the drawer", "open the drawer", "drawer"][:size],
    )


def write_demos(
    path, lengths=(9, 7, 12), cameras=("front",), size=16, prompt="close the drawer", action_size=7, masks=False,
    poses=False,
):  # fmt: skip
    """A file in robomimic's layout with moving gradients for frames; returns its path. poses: with those of a hand."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Made", "type": 1, "env_kwargs": {}})
        for i, n in enumerate(lengths):
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = n
            if prompt:
                demo.attrs["ep_meta"] = json.dumps({"lang": prompt})
            demo["actions"] = rng.uniform(-1, 1, (n, action_size))
            if poses:
                quat = np.array([1.0, 0, 0, 0]) + np.linspace(0, 1, n)[:, None] * (0, 1, 0, 1)
                demo["obs/robot0_eef_pos"] = np.linspace((0.1, 0, 0.9), (0.2, 0.3, 1.0), n)
                demo["obs/robot0_eef_quat"] = quat / np.linalg.norm(quat, axis=1, keepdims=True)
                demo["obs/robot0_gripper_qpos"] = np.linspace((0.04, -0.04), (0.0, 0.0), n)
            for camera in cameras:
                ramp = np.arange(n)[:, None, None, None] * 9 + np.arange(size)[:, None, None] * 5 + rng.integers(60)
                demo[f"obs/{camera}_image"] = np.broadcast_to(ramp % 256, (n, size, size, 3)).astype(np.uint8)
        if masks:
            file["mask/train"] = np.array([f"demo_{i}" for i in range(len(lengths) - 1)], dtype="S")
            file["mask/valid"] = np.array([f"demo_{len(lengths) - 1}"], dtype="S")
    return path


def start(*words):
    """One of the project's commands as a process of its own."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, env=env, **pipes)


def command(*words, timeout=240, kill_when=None):
    """Run a command in a fresh process -> (status, stdout, stderr); kill -9 as soon as the path `kill_when` exists."""
    with start(*words) as process:
        deadline = time.monotonic() + timeout
        while kill_when is not None and process.poll() is None:
            if kill_when.exists() or time.monotonic() > deadline:
                process.kill()
            time.sleep(0.01)
        out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err
