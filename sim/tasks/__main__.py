"""The table of tasks, and a check of their scripted experts.

    python -m sim.tasks                                        # names, prompts, longest episodes
    python -m sim.tasks --check --episodes 100 --workers 2     # run each expert on fresh scenes
"""

import argparse
import sys

from sim import SimError
from sim.task import SHIFTS
from sim.tasks import TASKS
from sim.tasks.check import check


def main() -> None:
    args = _parser().parse_args()
    if not args.check:
        return _print_table()
    if args.tasks == ["all"]:
        args.tasks = list(TASKS)
    unknown = [name for name in args.tasks if name not in TASKS]
    if unknown:
        return _fail(f"unknown task {unknown[0]!r}: choose from {', '.join(TASKS)}, or all")
    if args.episodes < 1 or args.workers < 1 or args.seed < 0 or args.noise < 0:
        return _fail("--episodes and --workers must be at least 1, --seed and --noise at least 0")
    try:
        for name in args.tasks:
            print(check(name, args.episodes, args.workers, args.shift, args.seed, args.noise), flush=True)
    except SimError as error:
        _fail(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.tasks", description="Print the table of tasks, or check their scripted experts."
    )
    parser.add_argument("--check", action="store_true", help="run the experts and print their success")
    parser.add_argument("--tasks", nargs="+", default=["all"], metavar="TASK", help="names, or all (default)")
    parser.add_argument("--episodes", type=int, default=100, help="fresh scenes per task (default 100)")
    parser.add_argument("--workers", type=int, default=1, help="processes, one simulator each (default 1)")
    parser.add_argument("--shift", choices=SHIFTS, default="none", help="which scenes (default none: training)")
    parser.add_argument("--seed", type=int, default=0, help="another set of scenes (default 0)")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of noise added to the "
                        "six arm numbers of every action (default 0)")
    return parser


def _fail(message: str) -> None:
    print(message, file=sys.stderr)
    sys.exit(2)


def _print_table() -> None:
    width = max(map(len, TASKS))
    prompts = max(len(task.prompt) for task in TASKS.values())
    print(f"{'task':<{width}}  {'prompt':<{prompts}}  family  longest episode")
    for task in TASKS.values():
        print(f"{task.name:<{width}}  {task.prompt:<{prompts}}  {task.family:<6}  {task.horizon / 20:.0f} s")


if __name__ == "__main__":
    main()
