"""The table of tasks, a check of their scripted experts, and pictures of them all.

python -m sim.tasks                                        # names, prompts, longest episodes
python -m sim.tasks --check --episodes 100 --workers 2     # run each expert on fresh scenes
python -m sim.tasks --blind demos --tasks CloseDrawer      # open-loop replay: do demos win other scenes?
python -m sim.tasks --sheet tasks --out assets/tasks.png   # what a policy sees: start, middle and end, each camera
python -m sim.tasks --sheet shifts --out assets/shifts.png # one scene under each shift
"""

from pathlib import Path

from sim.task import SHIFTS
from sim.tasks import TASKS
from sim.tasks.check import check, open_loop_replay, rate
from sim.tasks.sheets import draw_sheet
from util.cli import Parser, choose_tasks, command, float_range, frame_size, int_range
from util.files import InputError


def parse():
    """The flags."""
    parser = Parser(prog="python -m sim.tasks", description="Print the table of tasks or check the experts.")
    add = parser.add_argument
    add("--check", action="store_true", help="run the experts and print their success rate")
    add("--blind", dest="replay", type=Path, metavar="DEMOS", help="open-loop replay of that folder on other scenes")
    add("--sheet", choices=("tasks", "shifts"), help="draw a picture of the tasks")
    add("--tasks", nargs="+", default=["all"], metavar="TASK", help="names, or all")
    add("--episodes", type=int_range(1), default=100, help="fresh scenes per task")
    add("--workers", type=int_range(1, 256), default=1, help="processes, one simulator each")
    add("--shift", choices=SHIFTS, default="none", help="which scenes; none: as in training")
    add("--seed", type=int_range(0), default=0, help="which set of scenes; which scene of a --sheet")
    add("--noise", type=float_range(0, 1), default=0.0, help="std of noise on the six arm actions")
    add("--out", type=Path, metavar="PNG", help="the --sheet's file (default: assets/<sheet>.png)")
    add("--size", type=frame_size, default=64, help="side of a --sheet's frames in pixels")
    args = parser.parse_args()
    if args.noise and args.replay:
        raise InputError("--noise: a replay is not disturbed; give it with --check")
    return args


def print_table():
    """Name, prompt, family and longest episode of every task."""
    print(f"{'task':<21}  {'prompt':<62}  {'family':<8}  longest episode")
    for task in TASKS.values():
        longest = f"{task.horizon} steps, {task.horizon / 20:g} s"
        print(f"{task.name:<21}  {task.any_prompt:<62}  {task.family:<8}  {longest}")


def main():
    """Print the table, or do what the flags ask for: a line per task, a sheet."""
    args = parse()
    names = choose_tasks(args.tasks, TASKS)
    if not (args.check or args.replay or args.sheet):
        print_table()
    for name in names if args.replay else ():
        print(open_loop_replay(name, args.replay, args.episodes, args.workers, args.shift, args.seed)[1], flush=True)
    if args.sheet:
        print(draw_sheet(args.sheet, names, args.out or Path(f"assets/{args.sheet}.png"), args.size, args.seed))
    total = 0
    for name in names if args.check else ():
        won, line = check(name, args.episodes, args.workers, args.shift, args.seed, args.noise)
        print(line, flush=True)
        total += won
    if args.check and len(names) > 1:
        print(f"all: {rate(total, len(names) * args.episodes)}")


if __name__ == "__main__":
    command(main)
