"""What one policy for all seventeen tasks reaches, task by task: a JSON file, a figure, and a film of them all.

    python -m tools.seventeen --run checkpoints/seventeen --data demos17    # what is missing of most; stop at will
    python -m tools.seventeen --run checkpoints/seventeen --data demos64 --only "tiny, this task alone"
    python -m tools.seventeen --run checkpoints/seventeen --table            # run nothing, print the table
    python -m tools.seventeen --run checkpoints/seventeen --film assets/seventeen.webp

Fifty unseen scenes of each task, those of evaluate.py's --seed 0. Beside the policy: the same one under each shift, and
with the wrong sentence where a task has several; and a demonstration replayed without looking. Where --only asks for
it, a policy of the preset tiny as well that was trained on this task alone, on frames of the size that it will see
(OpenDrawer: 41 of 50, on resized ones 29). Demonstrations:

    python -m sim.demos --tasks all --demos 100 --cameras front side wrist --size 96 --out demos17
    python -m sim.demos --tasks all --demos 100 --out demos64                              # for those of one task
"""

import subprocess
import sys
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from PIL import Image, ImageOps

from evaluate import FILM_EVERY, EvalConfig, check_robot, evaluate, fingerprint, rollout
from sim import shared_env
from sim.record import evaluation_seed
from sim.task import SHIFTS
from sim.tasks import TASKS
from sim.tasks.check import open_loop_replay
from util.cli import Parser, choose_tasks, command, int_range, wilson
from util.figures import new_figure, write_film
from util.files import InputError, check_same, check_writable, read_json, write_json
from videopolicy import VideoPolicy

EPISODES = 50
ALONE, REPLAY, WRONG = "tiny, this task alone", "its demonstrations replayed", "the wrong sentence"
TINY = "--preset tiny --demos 100 --steps 1200 --head-steps 2000 --eval-every 1e9".split()
HOW = {"one policy": EvalConfig()} | {f"shift {shift}": EvalConfig(shift=shift) for shift in SHIFTS[1:]}
HOW |= {WRONG: EvalConfig(prompt="wrong")}
MEASURES = (*HOW, REPLAY, ALONE)
DRAWN = {"one policy": "o", ALONE: "s", REPLAY: "x"}
FILM_SEED = evaluation_seed(0, seed=7)
GREEN, COLUMNS = (40, 160, 70), 6


def measure(name, task, args):
    """How many of EPISODES scenes of a task are won in the way that MEASURES calls so."""
    if name == REPLAY:
        return open_loop_replay(task, args.data, EPISODES, args.workers, "none")[0]
    run = train_alone(task, args) if name == ALONE else args.run
    episodes, *_ = evaluate(
        run / "policy.pt", [task], EPISODES, HOW.get(name, EvalConfig()), workers=args.workers, films=0
    )
    return sum(episode.success for episode in episodes)


def train_alone(task, args):
    """The run folder of a tiny policy of one task, which is trained unless that was done."""
    run = Path("runs/alone") / task
    if not (run / "curves.png").exists():  # the last file that train.py writes
        begun = ["--resume"] if (run / "resume.pt").exists() else ["--tasks", task, "--data", str(args.data), *TINY]
        if status := subprocess.run([sys.executable, "train.py", "--run", str(run), *begun]).returncode:
            raise SystemExit(status)  # train.py has said why
    return run


def measure_all(args, found):
    """Fill in what is missing of `found`, {measure: {task: wins}}, and keep it after every task."""
    for name in args.only or (*HOW, REPLAY):
        for task in choose_tasks(args.tasks, TASKS):
            if task in found["wins"].setdefault(name, {}) or (name == WRONG and not TASKS[task].choices):
                continue
            found["wins"][name][task] = measure(name, task, args)
            write_json(args.out, found)


def print_table(wins):
    """The table in Markdown; the last row is the mean over the tasks that are there."""
    print(f"| task | {' | '.join(wins)} |")
    print("|---" * (len(wins) + 1) + "|")
    for task in TASKS:
        cells = [f"{of[task]} [{{:.2f}}, {{:.2f}}]".format(*wilson(of[task], EPISODES)) if task in of else ""
                 for of in wins.values()]  # fmt: skip
        print(f"| {task} | {' | '.join(cells)} |")
    means = [f"{mean(of.values()) / EPISODES:.2f} of {len(of)} tasks" if of else "" for of in wins.values()]
    print(f"| mean | {' | '.join(means)} |")


def plot(wins, path):
    """Success of each task with its 95 % interval: the policy, the one of this task alone, and the replay."""
    by = wins.get("one policy") or max(wins.values(), key=len)
    order = sorted(by, key=by.get)
    with new_figure(path, 1, (8, 5.5), dpi=110) as (axes,):
        for shift, (name, marker) in zip((0.18, 0, -0.18), DRAWN.items(), strict=True):
            if name not in wins:
                continue
            there = [(y, wins[name][task]) for y, task in enumerate(order) if task in wins[name]]
            for y, won in there:
                axes.plot(wilson(won, EPISODES), [y + shift] * 2, color="0.75", lw=2, zorder=1)
            axes.scatter([won / EPISODES for _, won in there], [y + shift for y, _ in there], 30, marker=marker,
                         label=name, zorder=2)  # fmt: skip
        axes.set_yticks(range(len(order)), order)
        axes.set(xlim=(-0.02, 1.02), xlabel=f"success over {EPISODES} unseen scenes, with 95 % intervals")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")


def film(policy, path, names):
    """One scene of each task at once, reality above the dream that it decided by, framed in green once it is won."""
    cells = []
    for name in names:
        env = shared_env(name, policy.config.cameras, policy.config.image_size)
        episode, _, pairs = rollout(env, policy, FILM_SEED, EvalConfig(), film=True, passes=None)
        pictures = [np.concatenate([reality[0], dream[0]], axis=1).transpose(1, 2, 0) for reality, dream in pairs]
        cells.append((pictures, episode.success))
        print(f"{name}: {'success' if episode.success else 'no success'} after {episode.steps} steps", flush=True)
    length = max(len(pictures) for pictures, _ in cells) + 5  # the end stays for a second
    frames = []
    for t in range(length):
        row = [framed(pictures[min(t, len(pictures) - 1)], won and t >= len(pictures)) for pictures, won in cells]
        row += [np.full_like(row[0], 255)] * (-len(row) % COLUMNS)
        rows = [np.concatenate(row[i : i + COLUMNS], axis=1) for i in range(0, len(row), COLUMNS)]
        frames.append(np.concatenate(rows))
    write_film(path, np.stack(frames), fps=20 / FILM_EVERY)


def framed(picture, won):
    """A picture in a frame of three pixels, white, or green where the scene is won."""
    return np.asarray(ImageOps.expand(Image.fromarray(picture), 3, GREEN if won else "white"))


def load(path, policy):
    """What was measured of this policy before, or the beginning of it. InputError for another policy's file."""
    new = {"policy": policy, "episodes": EPISODES}
    if not path.exists():
        return new | {"wins": {}}
    found = read_json(path)
    check_same(path, found, new)
    return found


def main():
    parser = Parser(prog="seventeen.py", description="Try one policy on all seventeen tasks.", epilog=__doc__)
    add = parser.add_argument
    add("--run", type=Path, default=Path("checkpoints/seventeen"), help="a run folder of train.py")
    add("--data", type=Path, default=Path("demos17"), help="demonstrations, for replay and policies of one task")
    add("--only", nargs="+", choices=MEASURES, metavar="MEASURE", help=f"some of: {', '.join(MEASURES)}")
    add("--tasks", nargs="+", default=["all"], metavar="TASK", help="some of the tasks")
    add("--out", type=Path, default=Path("results/seventeen.json"), help="file to fill; the figure lies beside it")
    add("--workers", type=int_range(1, 256), default=2, help="processes; the result is the same for any number")
    add("--table", action="store_true", help="run nothing, print the table")
    add("--film", type=Path, metavar="FILE", help="make that film, .webp or .gif, instead, of one scene of each task")
    args = parser.parse_args()
    policy = VideoPolicy.load(args.run / "policy.pt")
    check_robot(args.run, policy.config)
    if args.film and args.film.suffix not in (".webp", ".gif"):
        raise InputError(f"--film {args.film}: is no .webp or .gif")
    if not args.table:
        check_writable(args.film or args.out)
    if args.film:
        torch.set_num_threads(1)  # so that sums round as in evaluate.py
        film(policy, args.film, choose_tasks(args.tasks, TASKS))
        return
    found = load(args.out, fingerprint(policy))
    if not args.table:
        measure_all(args, found)
        plot(found["wins"], args.out.with_suffix(".png"))
    print_table(found["wins"])


if __name__ == "__main__":
    command(main)
