"""The paper's claims, each by one command: runs the arms of ablations.py with training seeds, and says what came out.

    python ablate.py --only methods,demos,shifts --preset tiny --seeds 3     # what is missing; stop and start at will
    python ablate.py --table                                                 # run nothing, judge what is there
    python ablate.py --dry-run                                               # shell lines that a cluster can share out

A cell is an arm and a training seed. Every cell writes results/<preset>/cells/<name>.json, and what is there is not run
again. Policies stay in runs/ablate and may be deleted: a cell whose policy is gone trains it anew. Fixed beforehand:
the final averaged weights are tried, never the best; all arms meet the same scenes, so that differences are paired.
What was chosen after results were seen is listed in results/README.md.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ablations import statistics
from ablations.protocol import ABLATIONS, PROTOCOLS, TWO_STAGE, Arm, Protocol, claims
from cli import InputError, Parser, command, int_range
from train import RECIPES
from training.device import processor
from training.run_folder import write_json
from videopolicy import PRESETS, Config

RUNS, RESULTS = Path("runs/ablate"), Path("results")


# ------------------------------------------------------------------------ cells


def slug(words: tuple) -> str:
    """Flags as part of a file name; long ones are cut and told apart by a hash."""
    text = "_".join(word.lstrip("-").replace(".", "p") for word in words) or "plain"
    return text if len(text) <= 60 else f"{text[:50]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def setting(preset: str) -> str:
    """What the flags do not say, networks and recipe, as one short word."""
    fields = dataclasses.asdict(Config(**PRESETS[preset])), dataclasses.asdict(RECIPES[preset])
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Cell:
    """An arm with a training seed: the commands that make it, and where they leave what."""

    arm: Arm
    preset: str
    seed: int

    @property
    def run(self) -> Path:
        """Its folder, named with a hash of all that made it: a policy of another protocol is never taken for it."""
        made_by = hashlib.sha256(" ".join([*self.flags(), setting(self.preset)]).encode()).hexdigest()[:8]
        return RUNS / self.preset / f"{slug(self.arm.train)}_seed{self.seed}_{made_by}"

    @property
    def name(self) -> str:
        return f"{slug(self.arm.train + self.arm.evaluate)}_seed{self.seed}"

    @property
    def result(self) -> Path:
        return RESULTS / self.preset / "cells" / f"{self.name}.json"

    def source(self) -> "Cell":
        """The cell whose generator this one's policy has: its own, or the plain one's of its seed."""
        return Cell(TWO_STAGE, self.preset, self.seed) if self.arm.generator else self

    def flags(self) -> list[str]:
        """What determines the policy. The precision is fixed: measured anew, it could differ between arms."""
        p, words = PROTOCOLS[self.preset], self.arm.train
        tasks = () if "--tasks" in words else ("--tasks", *p.tasks)
        fixed = ("--preset", self.preset, "--precision", "bf16", "--data", p.data, "--demos", str(p.demos))
        generator = ("--generator", str(self.source().run)) if self.arm.generator else ()
        return [*fixed, "--steps", str(p.steps), "--seed", str(self.seed), *tasks, *words, *generator]

    def train(self) -> list[str]:
        """The command that trains the policy."""
        return ["train.py", *self.flags(), "--threads", "1", "--look-every", "1e9", "--run", str(self.run)]

    def evaluate(self) -> list[str]:
        """The command that tries it."""
        p = PROTOCOLS[self.preset]
        tasks = () if "--tasks" in self.arm.evaluate else ("--tasks", *p.tasks)
        words = (*tasks, "--episodes", str(p.episodes), "--films", "0", "--workers", "1", *self.arm.evaluate)
        return ["evaluate.py", "--run", str(self.run), *words, "--out", f"eval_{slug(self.arm.evaluate)}.json"]

    def commands(self) -> list[list[str]]:
        """What is still to be run for this cell."""
        missing = []
        for cell in dict.fromkeys((self.source(), self)):
            if not (cell.run / "curves.png").exists():  # the last that train.py writes
                begun = (cell.run / "resume.pt").exists()
                missing.append(["train.py", "--run", str(cell.run), "--resume"] if begun else cell.train())
        return [*missing, self.evaluate()]


def make(cell: Cell) -> None:
    """Run a cell and keep its result. InputError with the last line of a command that fails."""
    started = time.monotonic()
    alone = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "stdin": subprocess.DEVNULL}
    for words in cell.commands():
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, **alone)
        if done.returncode:
            raise InputError(f"{shlex.join(words)}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    found = json.loads((cell.run / f"eval_{slug(cell.arm.evaluate)}.json").read_text())
    result = {
        "train": cell.train(), "evaluate": cell.evaluate(), "setting": setting(cell.preset), "machine": machine(),
        "train_seconds": train_seconds(cell.run), "seconds": round(time.monotonic() - started),
        "ms_per_decision": found["timing"]["ms_per_decision"], "policy": found["protocol"]["policy"],
        "first_scene": found["episodes"][0]["seed"],
        "won": {task: "".join(str(int(e["success"])) for e in row) for task, row in by_task(found).items()},
    }  # fmt: skip
    for field in ("dream_error", "first_dream_error"):
        if any(e[field] is not None for e in found["episodes"]):
            result[field] = {task: [e[field] for e in row] for task, row in by_task(found).items()}
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    write_json(cell.result, result, indent=None)


def by_task(found: dict) -> dict[str, list[dict]]:
    """The episodes of an evaluation, by task and in the order of their scenes."""
    rows = {}
    for episode in sorted(found["episodes"], key=lambda e: e["seed"]):
        rows.setdefault(episode["task"], []).append(episode)
    return rows


def machine() -> dict:
    """Where a number comes from."""
    import torch

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {"cpu": processor(), "gpu": cuda, "torch": torch.__version__,
            "python": platform.python_version(), "day": time.strftime("%Y-%m-%d")}  # fmt: skip


def train_seconds(run: Path) -> float:
    """Wall time of training, from a run's log; where the generator was taken over, of the second stage."""
    stages = {}
    for line in (run / "log.csv").read_text().splitlines()[1:]:
        stage, _, seconds, *_ = line.split(",")
        stages[stage] = float(seconds)
    return round(sum(stages.values()), 1)


def read(cell: Cell) -> dict | None:
    """A cell's result, None where there is none yet. InputError for one of another protocol."""
    if not cell.result.exists():
        return None
    try:
        found = json.loads(cell.result.read_text())
        now = {"train": cell.train(), "evaluate": cell.evaluate(), "setting": setting(cell.preset)}
        same = all(found[field] == value for field, value in now.items())
        statistics.episodes(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{cell.result}: damaged; delete it, and its cell is run again") from None
    if not same:
        raise InputError(f"{cell.result}: is of another protocol; move it away, or set ablations.py and Recipe back")
    return found


# -------------------------------------------------------------------- verdicts


def complete(arm: Arm, preset: str, seeds: int) -> list[dict] | None:
    """The results of an arm, seed 0 and on, as far as there are any; None while one of the first `seeds` is missing."""
    found = list(itertools.takewhile(bool, (read(Cell(arm, preset, seed)) for seed in itertools.count())))
    return found if len(found) >= seeds else None


def summarise(name: str, preset: str, seeds: int) -> list[str]:
    """Write results/<preset>/<name>.json and its plot from the finished cells -> rows of the README's table."""
    protocol = PROTOCOLS[preset]
    arms = {arm.label: arm for arm in ABLATIONS[name](protocol)}
    done = {label: results for label, arm in arms.items() if (results := complete(arm, preset, seeds))}
    table = statistics.tabulate(arms, done)
    told = [statistics.judge(claim, f"ablate.py --only {name}", done) for claim in claims(name, protocol)]
    if table:
        folder = RESULTS / preset
        folder.mkdir(parents=True, exist_ok=True)
        machines = sorted({json.dumps(result["machine"]) for results in done.values() for result in results})
        found = {"arms": table, "claims": [kept for kept, _ in told if kept],
                 "machines": [json.loads(machine) for machine in machines]}  # fmt: skip
        write_json(folder / f"{name}.json", found)
        statistics.plot(name, table, done, folder / f"{name}.png")
    return [row for _, row in told]


# --------------------------------------------------------------------- commands


def parse() -> argparse.Namespace:
    """The flags. InputError for an ablation that does not exist."""
    parser = Parser(prog="ablate.py", description="Run the paper's ablations.", epilog=__doc__)
    add = parser.add_argument
    add("--only", default=",".join(ABLATIONS), help="ablations, with commas and no blanks between them")
    add("--preset", choices=PROTOCOLS, default="tiny", help="size of the networks, and with it the protocol")
    add("--seeds", type=int_range(1, 100), default=3, help="training seeds of every arm; more that are there count too")
    add("--jobs", type=int_range(1, 64), default=2, help="lanes side by side, each a policy or a generator, one thread")
    add("--cells", nargs="+", metavar="CELL", help="only these, as --dry-run names them")
    add("--dry-run", action="store_true", help="print what is missing, a shell line for cells that share a policy")
    add("--table", action="store_true", help="run nothing; write tables and plots of what is there")
    args = parser.parse_args()
    args.only = args.only.split(",")
    for name in args.only:
        if name not in ABLATIONS:
            raise InputError(f"--only: unknown ablation {name!r}; there are {', '.join(ABLATIONS)}")
    return args


def main() -> None:
    """Run the cells that are missing, then print the table."""
    args = parse()
    protocol = PROTOCOLS[args.preset]
    cells = [cell for cell in wanted(args, protocol) if read(cell) is None]
    if cells and not args.dry_run and not args.table and not Path(protocol.data).is_dir():
        raise InputError(f"{protocol.data}: no such folder; record the demonstrations with {protocol.record}")
    lanes = by_lane(cells)
    if args.dry_run:
        for lane in lanes:
            words = ["python", "ablate.py", "--preset", args.preset, "--seeds", str(args.seeds), "--cells"]
            print(shlex.join([*words, *(cell.name for cell in lane)]))
        return
    if not args.table:
        run(lanes, args.jobs)
    if args.cells and not args.table:
        return  # other jobs may be at work on other cells; --table sums up
    print(statistics.HEADER)
    for name in args.only:
        print("\n".join(summarise(name, args.preset, args.seeds)))


def wanted(args: argparse.Namespace, protocol: Protocol) -> list[Cell]:
    """The cells that the flags ask for, each once, in the order of --cells or seed by seed. InputError for others."""
    arms = [arm for name in args.only for arm in ABLATIONS[name](protocol)]
    cells = {cell.name: cell for seed in range(args.seeds) for arm in arms for cell in [Cell(arm, args.preset, seed)]}
    for name in args.cells or ():
        if name not in cells:
            raise InputError(f"--cells: no cell {name!r} among those of --only and --seeds; --dry-run names them")
    return [cells[name] for name in args.cells or cells]


def by_lane(cells: list[Cell]) -> list[list[Cell]]:
    """Cells that must follow each other: those that try the same policy, and those that take over its generator."""
    lanes = {}
    for cell in sorted(cells, key=lambda cell: cell.arm.generator):
        lanes.setdefault(cell.source().run, []).append(cell)
    return list(lanes.values())


def run(lanes: list[list[Cell]], jobs: int) -> None:
    """Run lanes side by side; a cell that fails ends its lane, and the first failure is raised at the end."""
    failures = []
    bar = tqdm(total=sum(map(len, lanes)), desc="cells", unit="cell")

    def go(lane):
        for cell in lane:
            make(cell)
            bar.update()

    pool = ThreadPoolExecutor(jobs)
    try:
        failures = [future.exception() for future in [pool.submit(go, lane) for lane in lanes]]
    finally:  # also after Ctrl-C, which ends the commands that run; what they have saved is gone on with next time
        pool.shutdown(cancel_futures=True)
        bar.close()
    for failure in filter(None, failures):
        raise failure


if __name__ == "__main__":
    command(main, InputError, OSError)
