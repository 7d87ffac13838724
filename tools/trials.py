"""Paired trials: what buys dream per minute, and which network the preset small should be.

    python -m tools.trials                                           # what is missing; stop and start at will
    python -m tools.trials --only "Muon, 300 steps" "lr 4e-3"      # some rows
    python -m tools.trials --table                                   # run nothing, print the tables
    python -m tools.trials --pilots --data demos17_150                  # the same for PILOTS; with --table, their table

A row of TRIALS is stage 1 of the preset tiny on TurnOffSinkFaucet with some fields of TrainConfig or of the network
changed: 180 demos, training seeds 0 and 1, one thread, fp32. Judged by its dreams of the same 20 held-out demos.
A row of PILOTS is both stages on six of the seventeen tasks, 135 demos of each, seed 0: in as many steps as take the
same time on one thread. Judged by held-out decisions and by ten scenes of each task, of evaluate.py's --seed 7.
Each trial is a line of results/trials.jsonl, and what is there is not run again. Demonstrations:
python -m sim.demos --tasks TurnOffSinkFaucet --demos 200 --out demos200
python -m sim.demos --tasks all --demos 150 --cameras front side wrist --size 96 --out demos17_150
"""

import json
from dataclasses import replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from data.robomimic import read_clips
from data.windows import Windows, statistics
from evaluate import EvalConfig, evaluate, table
from model.text import vocabulary
from train import train_two_stage
from training.config import TRAIN_PRESETS
from training.device import faster_precision, processor
from training.run_folder import TrainState
from util.cli import Parser, command, int_range
from util.figures import dream_error
from util.files import write_file
from videopolicy import Config, VideoPolicy

OUT = Path("results/trials.jsonl")
SEEDS = (0, 1)
# Fields of TrainConfig and of the network that differ from tiny, which was without zero_terminal_snr at that time. Rows
# with head_steps train the head as well.
HEAD = dict(head_steps=750, cache_size=2048)
SHORT = dict(steps=300, p_sigma_max=0.3, lr=2e-3)
TRIALS = {
    "AdamW, 900 steps": dict(steps=900, p_sigma_max=0.3, lr=2e-3, muon=False),
    "Muon, 450 steps": dict(steps=450, p_sigma_max=0.3, lr=2e-3),
    "Muon, 300 steps": SHORT | HEAD,
    "lr 4e-3": SHORT | dict(lr=4e-3),
    "batch of 16, half the steps, lr 3e-3": SHORT | dict(steps=150, batch_size=16, lr=3e-3),
    "shorter average, 0.95": SHORT | dict(ema_decay=0.95),
    "60 % at sigma_max": SHORT | HEAD | dict(p_sigma_max=0.6),
    "80 % at sigma_max": SHORT | HEAD | dict(p_sigma_max=0.8),
    "60 % at sigma_max, lr 4e-3": SHORT | dict(p_sigma_max=0.6, lr=4e-3),
    "60 % at sigma_max, lr 8e-3": SHORT | dict(p_sigma_max=0.6, lr=8e-3),
    "60 % of noise alone, lr 4e-3": SHORT | HEAD | dict(p_sigma_max=0.6, lr=4e-3, zero_terminal_snr=True),
    "batch of 4, twice the steps": SHORT | dict(steps=600, batch_size=4),
    "batch of 4, twice the steps, 60 % at sigma_max, lr 4e-3": SHORT
    | dict(steps=600, batch_size=4, p_sigma_max=0.6, lr=4e-3),
    "4 frames of stride 8, twice the steps": SHORT | HEAD | dict(steps=600, video_frames=4, video_stride=8),
}


# Which network and which cameras for seventeen tasks, in steps that cost about as much as 1,500 with one camera.
SMALL = dict(image_size=96, patch=6, video_frames=4, video_stride=8, widths=(64, 96, 192), zero_terminal_snr=True)
LONGER = dict(head_steps=3000, cache_size=24576)
PILOTS = {
    "tiny, noise alone at sigma_max": LONGER | dict(steps=1700, zero_terminal_snr=True),
    "small: front": LONGER | SMALL | dict(steps=1500),
    "small, front and side": LONGER | SMALL | dict(steps=870, cameras=("front", "side")),
    "small, front and wrist": LONGER | SMALL | dict(steps=870, cameras=("front", "wrist")),
}
PILOT_TASKS = ("OpenDrawer", "CloseDoubleDoor", "TurnOffSinkFaucet", "PickAndPlace", "PnPCounterToStove", "StackCups")
PILOT_SCENES = dict(episodes=10, seed=7)
OF_NETWORK = ("cameras", "image_size", "video_frames", "video_stride", "patch", "widths", "zero_terminal_snr")


def trial(name, seed, data):
    """Train as the row `name` says -> a dict of what came out."""
    row, pilot = (TRIALS | PILOTS)[name], name in PILOTS
    network = Config(**{"zero_terminal_snr": False} | {f: row[f] for f in row if f in OF_NETWORK})
    precision = faster_precision(torch.device("cpu")) if pilot else "fp32"
    changes = {f: row[f] for f in row if f not in OF_NETWORK}
    config = replace(TRAIN_PRESETS["tiny"], seed=seed, precision=precision, **changes)
    train, held_out = [], []
    for task in PILOT_TASKS if pilot else ("TurnOffSinkFaucet",):
        shot = {"cameras": network.cameras, "size": network.image_size, "demos": 150 if pilot else 200}
        clips = read_clips(data / f"{task}.hdf5", task, **shot)
        train += clips[0]
        held_out += clips[1]
    windows = Windows(train, network)
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
    found, _ = dream_error(policy, Windows(held_out, network), count=240 if pilot else 64)
    if not with_head:
        found["action_error"] = None
    if pilot:
        with TemporaryDirectory() as folder:
            policy.save(Path(folder) / "policy.pt")
            won, *_ = evaluate(Path(folder) / "policy.pt", PILOT_TASKS, config=EvalConfig(), films=0, **PILOT_SCENES)
        found["success"] = [[task, *rest] for task, *rest in table(won)]
    return {"trial": name, "seed": seed, "changes": row, "precision": precision} | found | {
        "loss": mean(losses[-len(losses) // 10 :]), "seconds_per_step": seconds / config.steps,
        "cpu": processor(), "torch": torch.__version__,
    }  # fmt: skip


def finished():
    """{(name, seed): what came out} of the trials in OUT that were of the rows as they are now."""
    lines = OUT.read_text().splitlines() if OUT.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]  # not one that an older version was cut off in
    current = json.loads(json.dumps(TRIALS | PILOTS))  # tuples are lists there
    return {(row["trial"], row["seed"]): row for row in rows if current.get(row["trial"]) == row["changes"]}


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


def print_pilots(done):
    """The table of PILOTS in Markdown. The gain is over copying the current frame, whatever the frames dreamed."""
    print("| network | steps | dream over copying (dB) | one pass over copying | action error | success |")
    print("|---" * 6 + "|")
    for name, row in PILOTS.items():
        if found := done.get((name, 0)):
            dream, one_pass = (found[f] - found["psnr_copy"] for f in ("psnr_dream", "psnr_one_pass"))
            _, won, n, low, high = found["success"][-1]
            rest = f"{one_pass:.2f} | {found['action_error']:.4f} | {won}/{n} [{low:.2f}, {high:.2f}] |"
            print(f"| {name} | {row['steps']} | {dream:.2f} | {rest}")


def main():
    """Run what is missing, then print the table."""
    parser = Parser(prog="trials.py", description="Trials of how the generator is trained.", epilog=__doc__)
    parser.add_argument("--data", type=Path, default=Path("demos200"), help="folder with TurnOffSinkFaucet.hdf5")
    parser.add_argument("--pilots", action="store_true", help="run PILOTS, with seed 0, instead of TRIALS")
    parser.add_argument("--only", nargs="+", choices=[*TRIALS, *PILOTS], metavar="ROW", help="some rows (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int_range(0), help="training seeds (default: 0 and 1)")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table of what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in () if args.table else args.only or (PILOTS if args.pilots else TRIALS):
        for seed in args.seeds or (SEEDS if name in TRIALS else SEEDS[:1]):
            if (name, seed) not in finished():
                line = json.dumps(trial(name, seed, args.data))
                write_file(OUT, (OUT.read_text() if OUT.exists() else "") + line + "\n")
    (print_pilots if args.pilots else print_table)(finished())


if __name__ == "__main__":
    command(main)
