"""Is one policy better than another? The difference in success rate of evaluate.py's results, with its 95 % interval.

    python -m tools.compare runs/mine/eval_none.json --against runs/theirs/eval_none.json
    python -m tools.compare runs/a{0,1,2}/eval_all.json --against runs/b{0,1,2}/eval_all.json    # three training seeds

Episodes are paired by task and scene, and by training seed in the order given, so both sides need the same flags of
evaluate.py. With one training seed it is not known how much seeds differ.
"""

from pathlib import Path

import numpy as np

from ablations.statistics import difference, rate
from util.cli import Parser, command
from util.files import InputError, read_json

SETTINGS = ("shift", "execute", "video_steps", "guidance", "prompt", "seed")  # of evaluate.py


def read_result(path):
    """{task: {scene's seed: success}} of a result of evaluate.py, and {setting: its value}. Raises InputError."""
    success = {}
    try:
        result = read_json(path)
        for episode in result["episodes"]:
            success.setdefault(str(episode["task"]), {})[int(episode["seed"])] = bool(episode["success"])
        settings = {name: result["protocol"].get(name) for name in SETTINGS}
    except (TypeError, KeyError, ValueError, AttributeError):
        raise InputError(f"{path}: missing or no result of evaluate.py; make it with evaluate.py --run") from None
    if len({len(scenes) for scenes in success.values()}) != 1 or len(next(iter(success.values()))) < 2:
        raise InputError(f"{path}: field episodes: as many of each task are needed, and two at least")
    return success, settings


def print_row(name, tasks, ours, theirs):
    """A row of the table, over some tasks: success of both sides, and the difference."""
    scenes = [[[[result[task][seed] for seed in sorted(result[task])] for task in tasks] for result in side]
              for side in (ours, theirs)]  # fmt: skip
    arms = np.array(scenes, dtype=bool)  # (2, training seeds, tasks, scenes)
    cells = ["{}/{}, {:.2f} [{:.2f}, {:.2f}]".format(arm.sum(), arm.size, *rate(arm)) for arm in arms]
    print(f"| {name} | {' | '.join(cells)} | {{:+.2f}} [{{:+.2f}}, {{:+.2f}}] |".format(*difference(*arms)))


def main(argv=None):
    parser = Parser(prog="python -m tools.compare", description="Compare policies scene by scene.", epilog=__doc__)
    parser.add_argument("ours", type=Path, nargs="+", metavar="RESULT", help="eval_*.json, one per training seed")
    parser.add_argument("--against", type=Path, nargs="+", required=True, metavar="RESULT", help="as many others")
    args = parser.parse_args(argv)
    if len(args.ours) != len(args.against):
        raise InputError(f"--against: has {len(args.against)} results for {len(args.ours)} of ours; pair them")
    paths, pairs = args.ours + args.against, len(args.ours)
    results = [read_result(path) for path in paths]
    first, settings = results[0]
    scenes = {task: set(seeds) for task, seeds in first.items()}
    for path, (success, others) in zip(paths, results, strict=True):
        for name, value in sorted(others.items() - settings.items()):
            raise InputError(f"{path}: has {name}={value!r}, {paths[0]} has {settings[name]!r}; evaluate both alike")
        if {task: set(seeds) for task, seeds in success.items()} != scenes:
            raise InputError(f"{path}: has other scenes than {paths[0]}; use the same --tasks, --episodes, --seed")
    ours, theirs = ([success for success, _ in side] for side in (results[:pairs], results[pairs:]))
    print("| task | ours | theirs | difference |\n|---|---|---|---|")
    for task in scenes:
        print_row(task, [task], ours, theirs)
    if len(scenes) > 1:
        print_row("all", list(scenes), ours, theirs)


if __name__ == "__main__":
    command(main)
