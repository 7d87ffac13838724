"""Do the committed results hold on your machine? One headline difference, made again with one training seed.

    python -m ablations.check methods              # record, train and try two policies; some 20 minutes of two cores
    python -m ablations.check demos --seed 11      # another ablation, another seed

What is made again is the first claim of an ablation. Its difference with one seed scatters more than the committed
mean: it should lie within the interval for a further seed (statistics.predicted), which 95 % of seeds do. Policies and
results go to runs/check, nothing committed is touched. Any other seed than those committed is a new experiment.
"""

import subprocess
import sys
from pathlib import Path

from ablations import runs, statistics
from ablations.protocol import ABLATIONS, PROTOCOLS, RECORD, Arm, Claim, rows_of
from ablations.runs import Run, complete, data_folders, execute_runs, read_result
from training.device import pick_device
from util.cli import Parser, command, int_range
from util.files import InputError

SCRATCH, SEEDS = Path("runs/check"), 4  # fewer seeds say too little of how much they differ


def main():
    parser = Parser(prog="check.py", description="Make one headline difference again.", epilog=__doc__)
    parser.add_argument("name", choices=ABLATIONS, metavar="ABLATION", help=f"one of {', '.join(ABLATIONS)}")
    parser.add_argument("--seed", type=int_range(0, 2**31 - 1), default=10, help="training seed")
    args = parser.parse_args()
    protocol = PROTOCOLS["tiny"]
    arms = {arm.label: arm for arm in rows_of(Arm, args.name, protocol)}
    claim = next(claim for claim in rows_of(Claim, args.name, protocol) if claim.worse)
    done = {label: complete(arms[label], "tiny", 2) for side in claim.sides for label in side}
    seeds, committed = statistics.paired(claim, done)
    if len(seeds) < SEEDS:
        raise InputError(f"results/tiny: has {len(seeds)} of {SEEDS} seeds of {claim.text!r}; ablate.py makes them")
    if args.seed in seeds:
        raise InputError(f"--seed: {args.seed} is one of the {len(seeds)} committed ones; another is something new")

    runs.POLICIES, runs.RESULTS = SCRATCH / "policies", SCRATCH / "results"
    wanted = [Run(arms[label], "tiny", args.seed) for side in claim.sides for label in side]
    for data in data_folders(wanted):
        if subprocess.run([sys.executable, *RECORD[data].split()[1:]]).returncode:  # what is there is not made again
            raise InputError(f"{data}: not recorded; the line above says why")
    execute_runs({args.name: wanted}, 2, str(pick_device("cpu")))

    _, ours = statistics.paired(claim, {run.arm.label: {run.seed: read_result(run)} for run in wanted})
    value, *_ = statistics.difference(*ours)
    mean, low, high = statistics.predicted(*committed)
    told = "lies within" if low <= value <= high else "lies OUTSIDE"
    print(f"{claim.text}: {value:+.2f} with seed {args.seed}; this {told} [{low:+.2f}, {high:+.2f}], where")
    print(f"95 % of single seeds are expected from the {len(seeds)} committed ones, whose mean is {mean:+.2f}")
    raise SystemExit(0 if low <= value <= high else 1)


if __name__ == "__main__":
    command(main)
