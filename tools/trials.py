"""Paired trials of how the generator is trained: what buys dream per minute, and what does not.

    python -m tools.trials                                           # what is missing; stop and start at will
    python -m tools.trials --only "Muon, 300 steps" "lr 4e-3"      # some rows
    python -m tools.trials --table                                   # run nothing, print the table

A row of TRIALS is stage 1 of the preset tiny on TurnOffSinkFaucet with some fields of TrainConfig or of the network
changed: 180 demos, training seeds 0 and 1, one thread, fp32. Judged by its dreams of the same 20 held-out demos. Each
trial is a line of results/trials.jsonl, and what is there is not run again. Demonstrations:
python -m sim.demos --tasks TurnOffSinkFaucet --demos 200 --out demos200
"""

import json
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from tqdm import tqdm

from cli import Parser, command, int_range
from data.robomimic import read_clips
from data.windows import Windows, statistics
from figures import dream_error
from model.text import vocabulary
from train import train_two_stage
from training.config import TRAIN_PRESETS
from training.device import processor
from training.run_folder import TrainState
from videopolicy import Config, VideoPolicy

OUT = Path("results/trials.jsonl")
SEEDS = (0, 1)
# Fields of TrainConfig and of the network that differ from tiny. Rows with head_steps train the head as well.
HEAD = dict(head_steps=750, cache_size=2048)
SHORT = dict(steps=300, p_sigma_max=0.3, lr=2e-3)
TRIALS = {
    "AdamW, 900 steps": dict(steps=900, p_sigma_max=0.3, lr=2e-3, muon=False),
    "Muon, 450 steps": dict(steps=450, p_sigma_max=0.3, lr=2e-3),
    "Muon, 300 steps": SHORT | HEAD,
    "lr 4e-3": SHORT | dict(lr=4e-3),
    "batch of 16, half the steps, lr 3e-3": SHORT | dict(steps=150, batch_size=16, lr=3e-3),
    "shorter average, 0.95": SHORT | dict(ema=0.95),
    "60 % at sigma_max": SHORT | HEAD | dict(p_sigma_max=0.6),
    "80 % at sigma_max": SHORT | HEAD | dict(p_sigma_max=0.8),
    "60 % at sigma_max, lr 4e-3": SHORT | dict(p_sigma_max=0.6, lr=4e-3),
    "60 % at sigma_max, lr 8e-3": SHORT | dict(p_sigma_max=0.6, lr=8e-3),
    "batch of 4, twice the steps": SHORT | dict(steps=600, batch_size=4),
    "batch of 4, twice the steps, 60 % at sigma_max, lr 4e-3": SHORT
    | dict(steps=600, batch_size=4, p_sigma_max=0.6, lr=4e-3),
    "4 frames of stride 8, twice the steps": SHORT | HEAD | dict(steps=600, video_frames=4, video_stride=8),
}


def trial(name, seed, data):
    """Train as the row `name` says -> a dict of what came out."""
    row = TRIALS[name]
    of_network = {f: row[f] for f in ("video_frames", "video_stride") if f in row}
    network, task = Config(**of_network), "TurnOffSinkFaucet"
    config = replace(TRAIN_PRESETS["tiny"], seed=seed, **{f: row[f] for f in row if f not in of_network})
    shot = {"cameras": network.cameras, "size": network.image_size, "demos": 200}
    train, held_out = read_clips(data / f"{task}.hdf5", task, **shot)
    windows = Windows(train, **network.window_shape)
    measured = statistics(windows)
    torch.manual_seed(seed)
    stats = measured | {"video_std": measured["change_std"]}
    policy = VideoPolicy(network, vocabulary([clip.prompt for clip in train]), stats)
    losses, seconds, with_head = [], 0.0, "head_steps" in row
    with tqdm(total=config.steps, desc=f"{name}, seed {seed}", leave=False) as bar:
        for step in train_two_stage(policy, windows, config, TrainState()):
            if "video" in step:
                losses.append(step["video"])
                seconds = step["seconds"]
                bar.update()
            elif step["stage"] == 0 and not with_head:
                break  # the averaged weights are in
    found, _ = dream_error(policy, Windows(held_out, **network.window_shape), count=64)
    if not with_head:
        found["action_error"] = None
    return {"trial": name, "seed": seed, "changes": row} | found | {
        "loss": mean(losses[-len(losses) // 10 :]), "seconds_per_step": seconds / config.steps,
        "cpu": processor(), "torch": torch.__version__,
    }  # fmt: skip


def finished():
    """{(name, seed): what came out} of the trials in OUT that were of the rows as they are now."""
    lines = OUT.read_text().splitlines() if OUT.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]  # not one that was cut off by a kill
    return {(row["trial"], row["seed"]): row for row in rows if TRIALS.get(row["trial"]) == row["changes"]}


def print_table(done):
    """The table in Markdown: means over the seeds, and each seed's dream. Seconds a step: ./run bench."""
    print("| trial | dream, 8 passes (dB) | each seed | one pass (dB) | training loss | action error |")
    print("|---" * 6 + "|")
    for name in TRIALS:
        if rows := [done[name, seed] for seed in SEEDS if (name, seed) in done]:
            dream, one_pass, loss = (mean(r[f] for r in rows) for f in ("psnr_dream", "psnr_one_pass", "loss"))
            each = ", ".join(f"{r['psnr_dream']:.2f}" for r in rows)
            errors = [r["action_error"] for r in rows if r["action_error"] is not None]
            error = f"{mean(errors):.4f}" if errors else ""
            print(f"| {name} | {dream:.2f} | {each} | {one_pass:.2f} | {loss:.3f} | {error} |")


def main():
    """Run what is missing, then print the table."""
    parser = Parser(prog="trials.py", description="Trials of how the generator is trained.", epilog=__doc__)
    parser.add_argument("--data", type=Path, default=Path("demos200"), help="folder with TurnOffSinkFaucet.hdf5")
    parser.add_argument("--only", nargs="+", choices=TRIALS, metavar="ROW", help="rows of TRIALS (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int_range(0), default=SEEDS, help="training seeds")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table of what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in () if args.table else args.only or TRIALS:
        for seed in args.seeds:
            if (name, seed) not in finished():
                line = json.dumps(trial(name, seed, args.data))
                with open(OUT, "a") as file:
                    file.write(line + "\n")
    print_table(finished())


if __name__ == "__main__":
    command(main)
