"""What this machine does: the training loop on recorded demonstrations, decisions, frames; as a table and as JSON.

python -m tools.bench                              # two minutes; run it with nothing else running
"""

import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

from train import METHODS, PRESETS, train_pose_estimator
from training import labels
from training.build import load_clips, make_policy, make_windows
from training.device import autocast, faster_precision, pick_device
from training.run import TrainState
from util.cli import Parser, command
from util.files import claimed, write_json


def training(loop):
    """Steps per second of each stage, and batches of the feature cache; the first ten of each warm up."""
    clock = {}
    for row in loop:
        clock.setdefault(row["stage"], []).append(time.perf_counter())
    return {f"{stage}_steps_per_second": (len(t) - 12) / (t[-2] - t[10]) for stage, t in clock.items()}


def median(work, threads):
    """Median seconds of work(), called again and again for two seconds."""
    return Timer("work()", globals={"work": work}, num_threads=threads).blocked_autorange(min_run_time=2).median


def measure(args):
    """All numbers of this machine, {name: value}."""
    device, (network, config) = pick_device(args.device), PRESETS[args.preset]
    names = re.findall("model name.*: (.*)", cpu.read_text()) if (cpu := Path("/proc/cpuinfo")).exists() else []
    found = {"processor": [*names, platform.machine()][0], "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    precision = faster_precision(device)
    short = {"steps": 60, "head_steps": 300, "estimator_steps": 40, "cache_size": 32 * config.batch_size}
    config = replace(config, precision=precision, **short)
    found |= {"preset": args.preset, "device": str(device), "precision": precision, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        if not args.data:
            words = "--tasks OpenDrawer --demos 10 --workers 1 --cameras front side wrist --size 96 --out".split()
            started = time.perf_counter()
            subprocess.run([sys.executable, "-m", "sim.demos", *words, folder], check=True)
            found["demos_per_minute_one_process"] = 600 / (time.perf_counter() - started)
            seen, _ = labels.estimator_windows(Path(folder), [], network)  # demonstrations in place of play
            estimator, frames = labels.make_estimator(seen, seed=0).to(device), seen.clips[0].frames
            found |= training(train_pose_estimator(estimator, seen, config, TrainState()))
            found["labelled_frames_per_second"] = len(frames) / median(partial(labels.estimate, estimator, frames), 1)
        windows = make_windows(load_clips(network, args.data or Path(folder), ["all"])[0], network)
    policy = make_policy(windows.config, windows, seed=0).to(device)
    found |= training(METHODS["two_stage"](policy, windows, config, TrainState()))
    window, rng = windows[0], torch.Generator(device).manual_seed(0)
    for name, steps in (("fp32", 0), (precision, 0), (precision, 8)):
        act = partial(policy.act, window["current"][None], [window["prompt"]], rng, steps)
        with autocast(device, name):  # around all decisions: the weights are then cast once
            found[f"ms_per_decision_video_steps_{steps}_{name}"] = 1000 * median(act, threads=1)
    found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main():
    parser = Parser(prog="python -m tools.bench", description="Measure this machine.", epilog=__doc__)
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="tiny", help="size of the networks")
    add("--device", default="auto", help="cpu, cuda ...; auto takes a GPU where there is one")
    add("--data", type=Path, help="demonstrations (default: ten are recorded)")
    add("--out", type=Path, default=Path("bench.json"), help="where the numbers go")
    args = parser.parse_args()
    with claimed(args.out):
        found = measure(args)
        for key, value in found.items():
            print(f"{key.replace('_', ' '):38} {f'{value:.3g}' if isinstance(value, float) else value}")
        write_json(args.out, found)


if __name__ == "__main__":
    command(main)
