"""Record demonstrations with the scripted experts: OUT/<Task>.hdf5 in robomimic's layout (data/robomimic.py).

    python -m sim.demos --tasks CloseDrawer OpenDrawer --demos 50 --workers 2 --out demos
    python -m sim.demos --tasks all --demos 100 --play --seed 1 --out play       # play data: random motion

Recording can be stopped at any moment; the same command continues it. After a change to a task or an expert delete
the folder OUT/<Task>.parts, or old and new demos are mixed.
"""

import sys
import time
from pathlib import Path

from sim.record import EVALUATION_SEEDS, MOST_DEMOS, NOISE, SEED_SPACING, already_there, collect
from sim.task import CAMERAS, SHIFTS
from sim.tasks import TASKS
from util.cli import Parser, choose_tasks, command, float_range, int_range
from util.files import InputError


def main():
    """Record what the flags ask for, except files that exist."""
    parser = Parser(prog="python -m sim.demos", description="Record demonstrations by the experts.", epilog=__doc__)
    add = parser.add_argument
    add("--tasks", nargs="+", default=["CloseDrawer"], metavar="TASK", help="names from python -m sim.tasks, or all")
    add("--demos", type=int_range(1, MOST_DEMOS), default=50, help="successes per task; every tenth is held out")
    add("--out", type=Path, default=Path("demos"), help="folder for the files, OUT/<Task>.hdf5")
    add("--workers", type=int_range(1, 256), default=2, help="processes; the files are the same for any number")
    add("--cameras", nargs="+", default=["front"], choices=CAMERAS, metavar="CAMERA", help=", ".join(CAMERAS))
    add("--size", type=int_range(16, 1024), default=64, help="side of a frame in pixels, a multiple of 16")
    add("--shift", choices=SHIFTS, default="none", help="record under a distribution shift")
    add("--play", action="store_true", help="play data: random motion instead of the expert's")
    add("--noise", type=float_range(0, 1), default=NOISE, help="std of the noise on the expert's six arm actions")
    add("--seed", type=int_range(0, EVALUATION_SEEDS // SEED_SPACING - 1), default=0, help="another seed, other scenes")
    args = parser.parse_args()
    if args.size % 16:
        raise InputError(f"--size: {args.size} is not a multiple of 16")
    args.tasks = choose_tasks(args.tasks, TASKS)
    import sim.env  # noqa: F401  here: where no simulator runs, this says so before a worker fails

    args.out.mkdir(parents=True, exist_ok=True)
    started, tasks = time.monotonic(), len(args.tasks)
    try:
        megabytes = sum([record_task(name, args) for name in args.tasks])
    except SystemExit:  # Ctrl-C or SIGTERM, see util.cli.command
        print(f"stopped; what is recorded is kept in {args.out}, the same command goes on", file=sys.stderr)
        raise
    if tasks > 1:
        minutes = (time.monotonic() - started) / 60
        print(f"{tasks} tasks: {tasks * args.demos} demos, {minutes:.1f} minutes, {megabytes:.1f} MB")


def record_task(name, args):
    """Record OUT/<Task>.hdf5 unless it exists, and print a line about it -> its megabytes."""
    path = args.out / f"{name}.hdf5"
    fields = ("demos", "cameras", "size", "seed", "shift", "play", "noise")
    flags = {"task": name} | {field: getattr(args, field) for field in fields}
    done, started = "already there", time.monotonic()
    if not already_there(path, flags):
        failed = collect(path, flags, args.workers)
        done = f"{args.demos} demos, {failed} failed attempts thrown away, {time.monotonic() - started:.0f} s"
    megabytes = path.stat().st_size / 1e6
    print(f"{path}: {done}, {megabytes:.1f} MB")
    return megabytes


if __name__ == "__main__":
    command(main)
