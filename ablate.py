"""The paper's claims, each by one command: an ablation is a list of arms, each a policy trained and tried with seeds.

    python ablate.py --only methods,demos,shifts --preset tiny --seeds 3     # what is missing; stop and start at will
    python ablate.py --dry-run                                               # shell lines that a cluster can share out

An arm is flags of train.py and of evaluate.py that differ from the protocol's; a cell is an arm and a training seed.
Every cell writes results/<preset>/cells/<name>.json, and what is there is not run again. Policies stay in runs/ablate
and need not: a cell whose policy is gone trains it anew. Fixed before running: the final averaged weights are tried,
never the best; all arms meet the same scenes, so that differences are paired; nothing is tuned on evaluation scenes.
"""

import argparse
import hashlib
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

import numpy as np
from tqdm import tqdm

from bench import processor
from runfolder import write_json
from sim.cli import InputError, Parser, command, whole, wilson
from sim.task import SHIFTS
from sim.tasks import TASKS
from train import METHODS

RUNS, RESULTS = Path("runs/ablate"), Path("results")
DRAWS = 4000  # of the bootstrap
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # two-sided 95 % for 2, 3, ... 10 seeds


@dataclass(frozen=True)
class Arm:
    """One policy of an ablation and one way to try it, as flags that differ from the protocol's."""

    label: str
    train: tuple = ()
    evaluate: tuple = ()
    generator: bool = False  # stage 1 is that of the plain two_stage run of the same seed, so it is taken over


@dataclass(frozen=True)
class Claim:
    """What the paper says of two arms: `better` succeeds more often than `worse`."""

    text: str
    better: str
    worse: str
    paper: str


@dataclass(frozen=True)
class Protocol:
    """What all arms of a preset share."""

    data: str  # folder of demonstrations
    tasks: tuple
    demos: int
    steps: int  # of training, all stages
    episodes: int  # per task, seed and arm
    lenders: tuple  # tasks with actions, where others ...
    free: tuple  # ... have none


PROTOCOLS = {
    # At most 10 minutes of one core per policy: the reason for one task and so few steps. It is one in which the prompt
    # decides, and a robot that neither looks nor listens succeeds in 14 of 50 (python -m sim.tasks --blind demos).
    "tiny": Protocol(
        data="demos", tasks=("TurnSinkSpout",), demos=50, steps=3000, episodes=50,
        lenders=("TurnOffSinkFaucet",), free=("TurnSinkSpout",),
    ),
    "base": Protocol(
        data="demos96", tasks=tuple(TASKS), demos=50, steps=20000, episodes=50,
        lenders=("OpenDrawer", "CloseDoubleDoor", "TurnOffSinkFaucet", "TurnOnStove", "PnPCabToCounter",
                 "PnPCounterToStove", "PickAndPlace", "StackCups"),
        free=("CloseDrawer", "OpenDoubleDoor", "TurnOffMicrowave", "TurnSinkSpout", "PnPCounterToMicrowave",
              "PnPSinkToCounter", "CoffeeServeMug", "MMsToCup", "UprightObject"),
    ),
}  # fmt: skip
SCARCE = (2, 5, 10, 25)
FEW = 5  # of these, where one number must do
TWO_STAGE = Arm("two_stage")
BC = Arm("bc", ("--method", "bc"))


def arms(name: str, protocol: Protocol) -> list[Arm]:
    """The arms of an ablation."""
    if name == "methods":
        return [TWO_STAGE, *(Arm(method, ("--method", method)) for method in METHODS if method != "two_stage")]
    if name == "demos":
        labelled = [(n, ("--labelled", str(n))) for n in SCARCE]
        return [
            *(Arm(f"two_stage, {n}", flags, generator=True) for n, flags in labelled), TWO_STAGE,
            *(Arm(f"bc, {n}", (*flags, "--method", "bc")) for n, flags in labelled), BC,
            Arm(f"joint, {FEW}", ("--labelled", str(FEW), "--method", "joint")),
        ]  # fmt: skip
    if name == "horizon":
        return [*(Arm(f"{steps}", ("--video-horizon", str(steps))) for steps in (0, 8, 16)), Arm("32")]
    if name == "shifts":
        return [Arm(f"{arm.label}, {shift}", arm.train, ("--shift", shift)) for arm in (TWO_STAGE, BC)
                for shift in SHIFTS[1:]]  # fmt: skip
    if name == "sampling":
        passes = [Arm(f"{n} steps", evaluate=("--video-steps", str(n))) for n in (1, 4, 10)]
        return [Arm("0 steps"), *passes] + [Arm(f"execute {n}", evaluate=("--execute", str(n))) for n in (8, 32)]
    lent, tried = ("--tasks", *protocol.lenders), ("--tasks", *protocol.free)
    video = (*lent, "--action-free", *protocol.free)
    return [
        Arm("two_stage, with video", video, tried),
        Arm("joint, with video", (*video, "--method", "joint"), tried),
        Arm("bc, without", (*lent, "--method", "bc"), tried),
    ]


CLAIMS = {
    "methods": [
        Claim("two-stage beats joint", "two_stage", "joint", "0.63 / 0.57"),
        Claim("two-stage beats behaviour cloning", "two_stage", "bc", "0.63 / 0.41 (another network)"),
        Claim("a generator that was not trained is of no use", "two_stage", "frozen_random", "0.63 / 0.09"),
    ],
    "demos": [
        Claim(f"{FEW} labelled demos: two-stage beats cloning", f"two_stage, {FEW}", f"bc, {FEW}", "not measured"),
        Claim(f"{FEW} labelled demos: two-stage beats joint", f"two_stage, {FEW}", f"joint, {FEW}", "not measured"),
    ],
    "horizon": [
        Claim("a longer video horizon: 32 steps beat 16", "32", "16", "0.67 / 0.55"),
        Claim("a longer video horizon: 32 steps beat 0", "32", "0", "0.67 / 0.30"),
    ],
    "shifts": [
        Claim(f"two-stage beats cloning, shift {shift}", f"two_stage, {shift}", f"bc, {shift}", "not measured")
        for shift in SHIFTS[1:]
    ],
    "sampling": [Claim("more denoising decides better: 10 steps beat one pass", "10 steps", "0 steps", "not measured")],
    "action_free": [
        Claim("video without actions teaches a task", "two_stage, with video", "bc, without", "0.41 / 0.21"),
    ],
}  # fmt: skip


# ------------------------------------------------------------------------ cells


def slug(words: tuple) -> str:
    """Flags as part of a file name; long ones are cut and told apart by a hash."""
    text = "_".join(word.lstrip("-").replace(".", "p") for word in words) or "plain"
    return text if len(text) <= 60 else f"{text[:50]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Cell:
    """An arm with a training seed: the commands that make it, and where they leave what."""

    arm: Arm
    preset: str
    seed: int

    @property
    def run(self) -> Path:
        """Its folder, named with a hash of all flags: a policy of another protocol is never taken for it."""
        flags = hashlib.sha256(" ".join(self.flags()).encode()).hexdigest()[:8]
        return RUNS / self.preset / f"{slug(self.arm.train)}_{flags}"

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
        "train": cell.train(), "evaluate": cell.evaluate(), "machine": machine(),
        "train_seconds": train_seconds(cell.run), "seconds": round(time.monotonic() - started),
        "ms_per_decision": found["timing"]["ms_per_decision"],
        "episodes": [[e["task"], e["seed"], int(e["success"])] for e in found["episodes"]],
    }  # fmt: skip
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    write_json(cell.result, result)


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
        same = found["train"] == cell.train() and found["evaluate"] == cell.evaluate()
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{cell.result}: damaged; delete it, and its cell is run again") from None
    if not same:
        raise InputError(f"{cell.result}: is of another protocol; move it away, or set the protocol in ablate.py back")
    return found


# ---------------------------------------------------------------------- numbers


def rate(results: list[dict]) -> tuple[float, float, float, int]:
    """Success over the seeds of an arm, its 95 % Wilson interval, and how many episodes there were.

    The interval takes the episodes for independent; how much training seeds differ is seen in `difference`.
    """
    won = [success for result in results for *_, success in result["episodes"]]
    return sum(won) / len(won), *wilson(sum(won), len(won)), len(won)


def difference(better: list[dict], worse: list[dict]) -> tuple[float, float, float]:
    """Difference in success and its 95 % interval, from two arms' results, seed by seed and scene by scene.

    The wider of two intervals: Student's over the training seeds, and a bootstrap of the scenes, which all seeds share.
    """
    pairs = [[{(task, seed): won for task, seed, won in result["episodes"]} for result in pair]
             for pair in zip(better, worse, strict=True)]  # fmt: skip
    gaps = np.array([[a[scene] - b[scene] for scene in sorted(a)] for a, b in pairs])  # (seeds, scenes)
    rng = np.random.default_rng(0)
    drawn = rng.integers(gaps.shape[1], size=(DRAWS, gaps.shape[1]))
    low, high = np.quantile(gaps.mean(0)[drawn].mean(1), (0.025, 0.975))
    mean, seeds = gaps.mean(), len(gaps)
    if seeds > 1:
        half = STUDENT[min(seeds - 2, len(STUDENT) - 1)] * gaps.mean(1).std(ddof=1) / seeds**0.5
        low, high = min(low, mean - half), max(high, mean + half)
    return float(mean), float(low), float(high)


def verdict(low: float, high: float) -> str:
    """What an interval of the difference says about "better"."""
    return "holds" if low > 0 else "does not hold" if high < 0 else "cannot tell"


def complete(arm: Arm, preset: str, seeds: int) -> list[dict] | None:
    """The results of an arm for all seeds, None while one is missing."""
    found = [read(Cell(arm, preset, seed)) for seed in range(seeds)]
    return None if None in found else found


def summarise(name: str, preset: str, seeds: int) -> list[str]:
    """Write results/<preset>/<name>.json and its plot from the finished cells -> rows of the README's table."""
    known = {arm.label: arm for arm in arms(name, PROTOCOLS[preset])}
    done = {label: results for label, arm in known.items() if (results := complete(arm, preset, seeds))}
    table, lines = {}, []
    for label, results in done.items():
        p, low, high, n = rate(results)
        per_seed = [rate([result])[0] for result in results]
        milliseconds = float(np.median([result["ms_per_decision"] for result in results]))
        table[label] = {"success": p, "low": low, "high": high, "episodes": n, "seeds": per_seed,
                        "ms_per_decision": milliseconds}  # fmt: skip
    claims = []
    for claim in CLAIMS[name]:
        row = f"| {claim.text} | `ablate.py --only {name} --preset {preset}` |"
        if claim.better not in done or claim.worse not in done:
            lines.append(f"{row} not run | | {claim.paper} | |")
            continue
        a, b = table[claim.better], table[claim.worse]
        d, low, high = difference(done[claim.better], done[claim.worse])
        told = verdict(low, high)
        claims.append({"claim": claim.text, "difference": d, "low": low, "high": high, "verdict": told})
        ours = " / ".join(f"{x['success']:.2f} [{x['low']:.2f}, {x['high']:.2f}]" for x in (a, b))
        lines.append(f"{row} {ours} | {d:+.2f} [{low:+.2f}, {high:+.2f}] | {claim.paper} | {told} |")
    if table:
        folder = RESULTS / preset
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", {"arms": table, "claims": claims, "seeds": seeds})
        plot(name, table, folder / f"{name}.png")
    return lines


def plot(name: str, table: dict, path: Path) -> None:
    """A point with its interval for each arm, and a small one for each training seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.36 * len(table)), layout="constrained")
    for y, row in enumerate(table.values()):
        axes.plot([row["low"], row["high"]], [y, y], color="tab:blue", linewidth=2)
        axes.plot(row["success"], y, "o", color="tab:blue")
        axes.plot(row["seeds"], [y] * len(row["seeds"]), "|", color="black", markersize=9)
    axes.set(xlim=(0, 1), xlabel="success (line: 95 % over episodes; ticks: training seeds)", title=name)
    axes.set_yticks(range(len(table)), table)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    part = path.with_suffix(".part.png")
    figure.savefig(part, dpi=90)
    os.replace(part, path)
    plt.close(figure)


# --------------------------------------------------------------------- commands


def parse() -> argparse.Namespace:
    """The flags. InputError for an ablation that does not exist."""
    parser = Parser(prog="ablate.py", description="Run the paper's ablations.", epilog=__doc__)
    add = parser.add_argument
    add("--only", default=",".join(CLAIMS), help="ablations, with commas between them")
    add("--preset", choices=PROTOCOLS, default="tiny", help="size of the networks, and with it the protocol")
    add("--seeds", type=whole(1, 100), default=3, help="training seeds of every arm")
    add("--jobs", type=whole(1, 64), default=2, help="cells side by side, one thread each")
    add("--cells", nargs="+", metavar="CELL", help="only these, as --dry-run names them")
    add("--dry-run", action="store_true", help="print what is missing, a shell line for cells that share a policy")
    add("--table", action="store_true", help="run nothing; write tables and plots of what is there")
    args = parser.parse_args()
    args.only = args.only.split(",")
    for name in args.only:
        if name not in CLAIMS:
            raise InputError(f"--only: unknown ablation {name!r}; there are {', '.join(CLAIMS)}")
    return args


def main() -> None:
    """Run the cells that are missing, then print the table."""
    args = parse()
    wanted = [arm for name in args.only for arm in arms(name, PROTOCOLS[args.preset])]
    cells = {cell.result: cell for seed in range(args.seeds) for arm in wanted
             for cell in [Cell(arm, args.preset, seed)] if wants(args, cell) and read(cell) is None}  # fmt: skip
    lanes = by_lane(list(cells.values()))
    if args.dry_run:
        for lane in lanes:
            words = ["python", "ablate.py", "--preset", args.preset, "--seeds", str(args.seeds), "--cells"]
            print(shlex.join([*words, *(cell.name for cell in lane)]))
        return
    if not args.table:
        run(lanes, args.jobs)
    print("| claim | command | ours, better / worse | difference | paper | |\n|---|---|---|---|---|---|")
    for name in args.only:
        print("\n".join(summarise(name, args.preset, args.seeds)))


def wants(args: argparse.Namespace, cell: Cell) -> bool:
    """Whether the flags ask for a cell."""
    return not args.cells or cell.name in args.cells


def by_lane(cells: list[Cell]) -> list[list[Cell]]:
    """Cells that must follow each other: those that try the same policy, and those that take over its generator."""
    lanes = {}
    for cell in sorted(cells, key=lambda cell: cell.arm.generator):
        lanes.setdefault(cell.source().run, []).append(cell)
    return list(lanes.values())


def run(lanes: list[list[Cell]], jobs: int) -> None:
    """Run lanes side by side; a cell that fails ends its lane, and the first failure is raised at the end."""
    bar = tqdm(total=sum(map(len, lanes)), desc="cells", unit="cell")

    def go(lane):
        for cell in lane:
            make(cell)
            bar.update()

    pool = ThreadPoolExecutor(jobs)
    try:
        for future in [pool.submit(go, lane) for lane in lanes]:
            future.result()
    finally:  # also after Ctrl-C, which ends the commands that run; what they have saved is gone on with next time
        pool.shutdown(cancel_futures=True)
        bar.close()


if __name__ == "__main__":
    command(main, InputError, OSError)
