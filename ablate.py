"""Does generating video help, and when? Runs the arms of ablations/protocol.py, and prints what came out.

    python ablate.py --only labels,demos --seeds 5            # runs what is missing; stop and start at will
    python ablate.py --only shifts --quick                    # one seed, fewer steps and scenes, into runs/quick
    python ablate.py --table                                  # run nothing, print the tables of results/tiny

A run is an arm and a training seed, and one line of results/<set>/runs.jsonl. Policies lie in runs/ablate and may be
deleted. Fixed beforehand: the final averaged weights are evaluated, never the best; all arms meet the same scenes, so
that differences are paired. What was chosen after results were seen: results/README.md.
"""

from dataclasses import replace
from pathlib import Path

from ablations import plots
from ablations.protocol import ABLATIONS, PROTOCOLS, QUICK, Protocol
from ablations.runs import Run, execute_runs, missing_runs, read_runs, results_of
from ablations.statistics import tabulate
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
    add("--table", nargs="?", const="", metavar="SET", help="run nothing; print and draw a set (results/<preset>)")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := [name for name in args.only if name not in ABLATIONS]:
        raise InputError(f"--only: unknown question {unknown[0]!r}; there are {', '.join(ABLATIONS)}")
    protocol = PROTOCOLS[args.preset]
    if args.quick:
        protocol = replace(protocol, results=f"runs/quick/{args.preset}", **QUICK)
    if args.table is not None:
        return print_tables(args.only, protocol, Path(args.table or protocol.results), args.seeds)
    seeds = range(args.seeds or (1 if args.quick else 5))
    groups = [group for name in args.only for group in ABLATIONS[name](protocol)]
    missing = missing_runs([Run(arm, protocol, seed) for seed in seeds for group in groups for arm in group.arms])
    if args.dry_run:
        for command in dict.fromkeys(command for run in missing for command in run.commands(args.device, "auto")):
            print(f"python {command}")
        return
    check_data(protocol, missing)
    device = pick_device(args.device)
    precision = faster_precision(device)  # once: measured run by run it could differ between arms
    execute_runs(missing, args.jobs, str(device), precision)
    print_tables(args.only, protocol, Path(protocol.results), args.seeds)


def check_data(p: Protocol, runs: list[Run]) -> None:
    """InputError where a folder of demonstrations is missing, said before hours of work."""
    used = {word for run in runs for each in (run, *run.all_bases()) for word in each.train_flags().split()}
    demos, play = f"--tasks {p.tasks} --demos {p.demos}", f"--tasks {p.tasks} --demos {p.plays} --play --seed 1"
    recipes = {p.data: demos, p.shifted: f"{demos} --shift all", p.play: play, p.shifted_play: f"{play} --shift all",
               p.others: f"--tasks {p.other_tasks} --demos {p.demos}"}  # fmt: skip
    for folder, how in recipes.items():
        if folder in used and not Path(folder).is_dir():
            how = f"python -m sim.demos {how} {p.record} --out {folder}"
            raise InputError(f"{folder}: no such folder; record it with {how}")


def print_tables(names: list[str], protocol: Protocol, folder: Path, seeds: int | None) -> None:
    """The table of a set of runs: each question's arms that have results. Draws <folder>/<question>.png."""
    lines = read_runs(folder)
    print(f"# {folder}: {len(lines)} runs")
    for name in names:
        groups = {group.title: group.arms for group in ABLATIONS[name](protocol)}
        tables = {title: tabulate(arms, results_of(arms, lines, seeds)) for title, arms in groups.items()}
        tables = {title: table for title, table in tables.items() if table}
        print(f"\n## {name}: {ABLATIONS[name].__doc__.splitlines()[0]}\n")
        print("| arm | success rate | first minus this | first is better | paper | of each seed | ms |\n|" + "---|" * 7)
        for title, table in tables.items():
            shared = " ".join(map(str, next(iter(table.values()))["seeds"]))
            print(f"| *{title}; training seeds {shared}* |" + " |" * 6)
            for label, row in table.items():
                share, counts = interval(row["success"], row["low"], row["high"]), " ".join(map(str, row["counts"]))
                gap = interval(*row["difference"], "+") if "difference" in row else ""
                cells = label, share, gap, row.get("verdict", ""), row["paper"], f"{counts} of {row['episodes']}"
                print(f"| {' | '.join(cells)} | {row['ms_per_decision']:.0f} |")
                if row.get("auroc"):
                    print(f"| ... AUROC of success by video error | {interval(*row['auroc'])} |" + " |" * 5)
        if tables:
            plots.plot(name, tables, folder / f"{name}.png")


def interval(value: float, low: float, high: float, sign: str = "") -> str:
    """A number with its interval."""
    return f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


if __name__ == "__main__":
    command(main)
