"""The paper's claims, each by one command: runs the arms of ablations/protocol.py, and says what came out.

    python ablate.py --only methods,demos,horizon --seeds 5                 # what is missing; stop and start at will
    python ablate.py --only scaling --seeds 2                                # success over compute and data
    python ablate.py --table                                                 # run nothing, judge what is there
    python ablate.py --dry-run                                               # shell lines that a cluster can share out

A run is an arm and a training seed. Every run writes results/<preset>/runs/<name>.json, and what is there is not run
again. Policies stay in runs/ablate and may be deleted: a run whose policy is gone trains it anew. Fixed beforehand:
the final averaged weights are tried, never the best; all arms meet the same scenes, so that differences are paired.
What was chosen after results were seen is listed in results/README.md
(of the earlier set in results/tiny_adamw/README.md).
"""

import argparse
import shlex
from pathlib import Path

from ablations import statistics
from ablations.protocol import ABLATIONS, PROTOCOLS, RECORD, Arm, rows_of
from ablations.runs import (
    MAX_SEEDS,
    Run,
    data_folders,
    dreams_and_success,
    execute_runs,
    job_groups,
    read_result,
    summarise,
)  # fmt: skip
from training.device import pick_device
from util.cli import Parser, command, int_range
from util.files import InputError


def parse() -> argparse.Namespace:
    """The flags. InputError for an ablation that does not exist."""
    parser = Parser(prog="ablate.py", description="Run the paper's ablations.", epilog=__doc__)
    add = parser.add_argument
    add("--only", default=",".join(ABLATIONS), help="ablations, with commas and no blanks between them")
    add("--preset", choices=PROTOCOLS, default="tiny", help="size of the networks, and with it the protocol")
    few = "training seeds of every arm; more that are there count too (default: 5, and 1 for --table)"
    add("--seeds", type=int_range(1, MAX_SEEDS), help=few)
    add("--jobs", type=int_range(1, 64), default=2, help="policies trained or tried side by side, one CPU thread each")
    add("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    add("--runs", nargs="+", metavar="RUN", help="only these, as --dry-run names them")
    add("--dry-run", action="store_true", help="print what is missing, a shell line for runs that share a policy")
    add("--table", action="store_true", help="run nothing; write tables and plots of what is there")
    args = parser.parse_args()
    args.only = args.only.split(",")
    args.seeds = args.seeds or (1 if args.table else 5)
    for name in args.only:
        if name not in ABLATIONS:
            raise InputError(f"--only: unknown ablation {name!r}; there are {', '.join(ABLATIONS)}")
    return args


def main() -> None:
    """Run what is missing, then print the table."""
    args = parse()
    if not args.table:
        by_ablation = wanted(args)
        named = {run.name: run for of_name in by_ablation.values() for run in of_name}
        runs = [named[name] for name in args.runs or named if read_result(named[name]) is None]
        if args.dry_run:
            shared = ["--preset", args.preset, "--seeds", str(args.seeds), "--device", args.device]
            for group in job_groups(runs):
                print(shlex.join(["python", "ablate.py", *shared, "--runs", *(run.name for run in group)]))
            return
        for data in data_folders(runs):
            if not Path(data).is_dir():
                raise InputError(f"{data}: no such folder; record the demonstrations with {RECORD[data]}")
        execute_runs(by_ablation, args.jobs, str(pick_device(args.device)))
        if args.runs:
            return  # other machines may be at work on other runs; --table sums up
    print(statistics.HEADER)
    for name in args.only:
        for row in summarise(name, args.preset, args.seeds):
            print(row)
    print("\n" + dreams_and_success(args.preset))


def wanted(args: argparse.Namespace) -> dict[str, list[Run]]:
    """The runs that the flags ask for, of each ablation seed by seed. InputError for others in --runs."""
    arms = {name: rows_of(Arm, name, PROTOCOLS[args.preset]) for name in args.only}
    runs = {name: [Run(arm, args.preset, seed) for seed in range(args.seeds) for arm in arms[name]] for name in arms}
    known = {run.name for of_name in runs.values() for run in of_name}
    for name in args.runs or ():
        if name not in known:
            raise InputError(f"--runs: no run {name!r} among those of --only and --seeds; --dry-run names them")
    return {name: [run for run in runs[name] if run.name in (args.runs or known)] for name in runs}


if __name__ == "__main__":
    command(main)
