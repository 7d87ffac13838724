"""What this machine does: the training loop on recorded demonstrations, decisions, frames; as a table and as JSON.

    python -m tools.bench                              # two minutes; run it with nothing else running
    python -m tools.bench --preset small --data demos96 --tasks OpenDrawer

Steps per second are those that train.py makes: the same loop, windows, batches and feature cache.
"""

import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from train import METHODS, PRESETS
from training.build import load_clips, make_policy, make_windows
from training.device import autocast, batches, faster_precision, pick_device, processor, seeded_generator
from training.noise import draw_noise
from training.run import TrainState
from util.cli import Parser, command
from util.files import check_writable, write_json

STEPS, FIRST = {"video": 60, "action": 300, "features": 32}, 10  # measured steps; the first ones warm up


def record(folder, config, demos=10):
    """Record demonstrations of OpenDrawer with one process -> demonstrations per minute."""
    from sim.record import collect

    flags = {"task": "OpenDrawer", "demos": demos, "cameras": list(config.cameras), "size": config.image_size}
    started = time.perf_counter()
    collect(folder / "OpenDrawer.hdf5", flags | {"seed": 0, "shift": "none", "play": False})
    return {"demos_per_minute_one_process": 60 * demos / (time.perf_counter() - started)}


def training(policy, windows, config):
    """Steps per second of both stages and of the feature cache, as the loop itself says."""
    clock = {}
    for row in METHODS["two_stage"](policy, windows, config, TrainState()):
        clock.setdefault(row["stage"], []).append(time.perf_counter())
    spans = {stage: times[FIRST:-1] for stage, times in clock.items()}
    per_second = {stage: (len(times) - 1) / (times[-1] - times[0]) for stage, times in spans.items()}
    names = {"video": "video_steps", "features": "cached_batches", "action": "action_steps"}
    return {f"{name}_per_second": per_second[stage] for stage, name in names.items()}


def operations(policy, windows, config, device):
    """Floating-point operations of a step of stage 1, and of a second of large matrix products."""
    batch = next(batches(windows, config.batch_size, [0, 0], 0, device))
    noise = draw_noise(policy.config, policy.head, batch, seeded_generator([0], device))
    with FlopCounterMode(display=False) as counter, autocast(device, config.precision):
        policy.video_loss(batch, noise)[0].backward()
    a = torch.randn(2048, 2048, device=device, dtype=torch.bfloat16 if config.precision == "bf16" else torch.float32)
    return counter.get_total_flops(), 2 * len(a) ** 3 / median(lambda: a @ a)


def median(work, threads=None, at_least=2.0):
    """Median seconds of work(), called again and again."""
    timer = Timer("work()", globals={"work": work}, num_threads=threads or torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=at_least).median


def main(argv=None):
    parser = Parser(prog="bench.py", description="Measure this machine.", epilog=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="size of the networks")
    parser.add_argument("--device", default="auto", help="cpu, cuda ...; auto takes a GPU where there is one")
    parser.add_argument("--data", type=Path, help="demonstrations (default: ten are recorded)")
    parser.add_argument("--tasks", nargs="+", default=["all"], metavar="TASK", help="which of them")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="where the numbers go")
    args = parser.parse_args(argv)
    check_writable(args.out)
    device, (network, config) = pick_device(args.device), PRESETS[args.preset]
    found = {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    config = replace(config, steps=STEPS["video"], head_steps=STEPS["action"], precision=faster_precision(device),
                     cache_size=STEPS["features"] * config.batch_size)  # fmt: skip
    found |= {"preset": args.preset, "device": str(device), "precision": config.precision, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        found |= {} if args.data else record(Path(folder), network)
        windows = make_windows(load_clips(network, args.data or Path(folder), args.tasks)[0], network)
    policy = make_policy(windows.config, windows, seed=0).to(device)
    flops, rate = operations(policy, windows, config, device)
    found |= training(policy, windows, config)
    window, rng = windows[0], torch.Generator(device).manual_seed(0)
    for steps in (0, 8):
        act = lambda n=steps: policy.act(window["current"][None], [window["prompt"]], rng, video_steps=n)  # noqa: E731
        found[f"ms_per_decision_video_steps_{steps}"] = 1000 * median(act, threads=1)
    found["share_of_matrix_product_rate"] = flops * found["video_steps_per_second"] / rate
    found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for key, value in found.items():
        print(f"{key.replace('_', ' '):38} {f'{value:.3g}' if isinstance(value, float) else value}")
    write_json(args.out, found)


if __name__ == "__main__":
    command(main)
