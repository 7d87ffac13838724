"""Does generating video help, and when? Runs the arms of ablations/protocol.py, and prints what came out.

    python ablate.py --only labels,demos --seeds 5            # runs what is missing; stop and start at will
    python ablate.py --only shifts --quick                    # one seed, fewer steps and scenes, into runs/quick
    python ablate.py --table                                  # run nothing, print the tables of what is there

A run is an arm and a training seed, and one line of results/<set>/runs.jsonl. Policies lie in runs/ablate and may be
deleted. Fixed beforehand: the final averaged weights are evaluated, never the best; all arms meet the same scenes, so
that differences are paired. What was chosen after results were seen: results/README.md.
"""

from dataclasses import replace
from pathlib import Path

from ablations import plots
from ablations.protocol import ABLATIONS, PROTOCOLS, QUICK, Arm, Claim, Protocol, rows_of
from ablations.runs import Run, execute_runs, missing_runs, read_runs, results_of
from ablations.statistics import judge, tabulate
from training.device import faster_precision, pick_device
from util.cli import Parser, command, int_range
from util.files import InputError


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = Parser(prog="ablate.py", description="Run the ablations.", epilog=__doc__)
    add = parser.add_argument
    add("--only", default=",".join(ABLATIONS), help="questions, with commas and no blanks between them")
    add("--seeds", type=int_range(1, 100), help="training seeds 0 to N-1 (default: 5; 1 with --quick; --table: all)")
    add("--preset", choices=PROTOCOLS, default="tiny", help="size of the networks, and with it the protocol")
    add("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    add("--jobs", type=int_range(1, 64), default=2, help="commands side by side, one CPU thread each")
    add("--quick", action="store_true", help="fewer steps and scenes, one seed; results in runs/quick/<preset>")
    add("--dry-run", action="store_true", help="print the commands that are missing, and run nothing")
    add("--table", action="store_true", help="run nothing; print the tables and draw the plots of what is there")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := [name for name in args.only if name not in ABLATIONS]:
        raise InputError(f"--only: unknown question {unknown[0]!r}; there are {', '.join(ABLATIONS)}")
    protocol = PROTOCOLS[args.preset]
    if args.quick:
        protocol = replace(protocol, results=f"runs/quick/{args.preset}", **QUICK)
    if args.table:
        kept = sorted(path.parent for path in Path("results").glob(f"{args.preset}*/runs.jsonl"))
        for folder in [Path(protocol.results)] if args.quick else kept:
            print_tables(args.only, protocol, folder, args.seeds)
        return
    seeds = range(args.seeds or (1 if args.quick else 5))
    runs = {name: [Run(arm, protocol, i) for i in seeds for arm in rows_of(Arm, name, protocol)] for name in args.only}
    missing = missing_runs([run for of_question in runs.values() for run in of_question])
    if args.dry_run:
        commands = [f"python {command}" for run in missing for command in run.commands(args.device, "auto")]
        print("\n".join(dict.fromkeys(commands)))
        return
    check_data(protocol, missing)
    device = pick_device(args.device)
    precision = faster_precision(device)  # once: measured run by run it could differ between arms
    failures = [execute_runs(name, part, args.jobs, str(device), precision) for name, part in runs.items()]
    for failure in sum(failures, []):
        raise failure
    print_tables(args.only, protocol, Path(protocol.results), args.seeds)


def check_data(p: Protocol, runs: list[Run]) -> None:
    """InputError where a folder of demonstrations is missing, said before hours of work."""
    used = {word for run in runs for word in run.train_flags().split()}
    shifted, play = f"--demos {p.demos} --shift all", f"--demos {p.plays} --play --seed 1"
    for folder, how in ((p.data, f"--demos {p.demos}"), (p.shifted, shifted), (p.play, play)):
        if folder in used and not Path(folder).is_dir():
            how = f"python -m sim.demos --tasks {p.tasks} {how} {p.record} --out {folder}"
            raise InputError(f"{folder}: no such folder; record it with {how}")


def print_tables(names: list[str], protocol: Protocol, folder: Path, seeds: int | None) -> None:
    """The tables of a set of runs: each question's arms and claims that have results. Draws <folder>/<question>.png."""
    lines = read_runs(folder)
    print(f"# {folder}: {len(lines)} runs")
    for name in names:
        done = results_of(rows_of(Arm, name, protocol), lines, seeds)
        table = tabulate(rows_of(Arm, name, protocol), done)
        print(f"\n## {name}: {ABLATIONS[name].__doc__.splitlines()[0]}\n")
        print("| arm | training seeds | success rate | successes of each seed | ms a decision |\n" + "|---" * 5 + "|")
        for label, row in table.items():
            share, counts = interval(row["success"], row["low"], row["high"]), " ".join(map(str, row["counts"]))
            ms = f"{row['ms_per_decision']:.0f}"
            print(f"| {label} | {row['seeds']} | {share} | {counts} of {row['episodes']} | {ms} |")
        print("\n| claim | training seeds | rates | difference or AUROC | paper | verdict |\n" + "|---" * 6 + "|")
        for claim in rows_of(Claim, name, protocol):
            if judged := judge(claim, done):
                rates = " / ".join(interval(*rate) for rate in judged["rates"])
                value = interval(judged["value"], judged["low"], judged["high"], "+" if claim.worse else "")
                print(f"| {claim.text} | {judged['seeds']} | {rates} | {value} | {claim.paper} | {judged['verdict']} |")
        if table and name != "video_error":
            plots.plot(name, table, folder / f"{name}.png")


def interval(value: float, low: float, high: float, sign: str = "") -> str:
    """A number with its interval."""
    return f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


if __name__ == "__main__":
    command(main)
