"""The table of tasks, a check of their scripted experts, and open-loop replay of demonstrations.

    python -m sim.tasks                                        # names, prompts, longest episodes
    python -m sim.tasks --check --episodes 100 --workers 2     # success rate of each expert on fresh scenes
    python -m sim.tasks --replay demos --tasks CloseDrawer     # success rate of recorded actions on other scenes
"""

from pathlib import Path

from sim.task import SHIFTS
from sim.tasks import TASKS
from sim.tasks.check import check, open_loop_replay, rate
from util.cli import Parser, choose_tasks, command, float_range, int_range
from util.files import InputError


def main():
    """Print the table, or a line per task of what the flags ask for."""
    parser = Parser(prog="python -m sim.tasks", description="Print the table of tasks, or check them.", epilog=__doc__)
    add = parser.add_argument
    add("--check", action="store_true", help="run the experts and print their success rate")
    add("--replay", type=Path, metavar="DEMOS", help="open-loop replay of that folder's demonstrations on other scenes")
    add("--tasks", nargs="+", default=["all"], metavar="TASK", help="names, or all")
    add("--episodes", type=int_range(1), default=100, help="fresh scenes per task")
    add("--workers", type=int_range(1, 256), default=1, help="processes, one simulator each")
    add("--shift", choices=SHIFTS, default="none", help="what differs from the training scenes")
    add("--seed", type=int_range(0), default=0, help="another seed, other scenes")
    add("--noise", type=float_range(0, 1), default=0.0, help="std of noise on the six arm actions of --check")
    args = parser.parse_args()
    if args.noise and args.replay:
        raise InputError("--noise: has no effect on --replay; give it with --check")
    names = choose_tasks(args.tasks, TASKS)
    if not (args.check or args.replay):
        print(f"{'task':<21}  {'prompt':<62}  {'family':<8}  longest episode")
        for task in TASKS.values():
            longest = f"{task.horizon} steps, {task.horizon / 20:g} s"
            print(f"{task.name:<21}  {task.any_prompt:<62}  {task.family:<8}  {longest}")
    for name in names if args.replay else ():
        print(open_loop_replay(name, args.replay, args.episodes, args.workers, args.shift, args.seed)[1], flush=True)
    total = 0
    for name in names if args.check else ():
        successes, line = check(name, args.episodes, args.workers, args.shift, args.seed, args.noise)
        print(line, flush=True)
        total += successes
    if args.check and len(names) > 1:
        print(f"all: {rate(total, len(names) * args.episodes)}")


if __name__ == "__main__":
    command(main)
