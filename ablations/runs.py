"""What runs the arms: the commands of a run, what is kept of it, and the order in which runs follow each other.

A run is an arm and a training seed. It is one line of <results>/runs.jsonl; its policy lies in runs/ablate.
"""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from ablations.protocol import Arm, Protocol
from train import PRESETS
from util.cli import PARENT
from util.files import InputError

FIELDS = ("train", "generator", "evaluate", "seed")  # of a line, what tells it from others
HELD_OUT = ("video_psnr", "video_psnr_one_step", "copy_psnr", "action_error")  # columns of log.csv


def short_hash(*contents) -> str:
    """Eight hexadecimal digits that stand for anything that JSON can hold."""
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Run:
    """An arm with a training seed: the commands that make it, and where they leave what."""

    arm: Arm
    protocol: Protocol
    seed: int

    @property
    def key(self) -> tuple:
        """Its FIELDS."""
        return *self.arm.key, self.seed

    @property
    def folder(self) -> Path:
        """The policy's folder; a hash in its name says what made it, so that protocols do not share policies."""
        made_by = short_hash(self.train_flags(), *map(asdict, PRESETS[self.protocol.preset]))
        text = re.sub(r"[^\w.=-]+", "_", " ".join(self.arm.key[:2]).replace("--", "").strip())[:60] or "two_stage"
        return Path("runs/ablate", self.protocol.preset) / f"{text}_seed{self.seed}_{made_by}"

    @property
    def result(self) -> Path:
        """The evaluation's file: a path that depends on all that the result does but device and precision."""
        return self.folder / f"eval_{short_hash(self.evaluate_flags())}.json"

    def generator_run(self) -> "Run":
        """The run whose generator this one's policy has: its own, or that of another arm and the same seed."""
        return replace(self, arm=self.arm.generator or self.arm)

    def train_flags(self) -> str:
        """Flags that determine the policy: the protocol's and the arm's."""
        p, generator = self.protocol, f"--generator {self.generator_run().folder}" if self.arm.generator else ""
        fixed = f"--preset {p.preset} --data {p.data} --demos {p.demos} --steps {p.steps} --head-steps {p.head_steps}"
        return f"{fixed} --seed {self.seed} {self.with_tasks(self.arm.train)} {generator}".strip()

    def evaluate_flags(self) -> str:
        """How the policy is evaluated."""
        fixed = f"--episodes {self.protocol.episodes} --seed 2 --films 0 --workers 1"
        return f"{fixed} {self.with_tasks(self.arm.evaluate)}"

    def with_tasks(self, flags: str) -> str:
        """An arm's flags, with the protocol's tasks where the arm names none."""
        return flags if "--tasks" in flags else f"--tasks {self.protocol.tasks} {flags}".strip()

    def commands(self, device: str, precision: str) -> list[str]:
        """The command lines that are still to be run: training, the generator's run first, and the evaluation."""
        missing, fields = [], f"--set precision={precision} eval_every=1e9"
        for run in dict.fromkeys((self.generator_run(), self)):
            flags = run.train_flags()
            flags = flags.replace("--set", fields) if "--set" in flags else f"{flags} {fields}"
            if (run.folder / "resume.pt").exists():
                flags = "--resume"
            if not (run.folder / "curves.png").exists():  # the last file that train.py writes
                missing.append(f"train.py --run {run.folder} --device {device} {flags}")
        other = re.search("--oracle|--read-sigma|--pixels", self.arm.evaluate)
        program = "-m ablations.readout" if other else "evaluate.py"
        place = f"--run {self.folder} --out {self.result.name} --device {device}"
        return [*missing, f"{program} {place} {self.evaluate_flags()}"]


def read_runs(folder: Path | str) -> dict[tuple, dict]:
    """{Run.key: line} of a set's runs.jsonl; of two lines of a run the later counts. InputError for a damaged line."""
    path, lines = Path(folder) / "runs.jsonl", {}
    for number, text in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
        try:
            line = json.loads(text)
            lines[tuple(line[name] for name in FIELDS)] = line
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: line {number} is damaged; delete it, and its run is made again") from None
    return lines


def add_run(folder: Path | str, line: dict) -> None:
    """Add a line to a set's runs.jsonl."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / "runs.jsonl", "ab", buffering=0) as file:  # one call: lines of two processes do not mix
        file.write(f"{json.dumps(line)}\n".encode())


def results_of(arms: list[Arm], lines: dict[tuple, dict], seeds: int | None = None) -> dict[str, dict[int, dict]]:
    """{label: {training seed: line}} of the arms that have any; seeds: only those below that number. Of arms with one
    label the tasks are put together, for seeds that all of them have.
    """
    keys = sorted(key for key in lines if seeds is None or key[-1] < seeds)
    done = {}
    for arm in arms:
        mine, others = {key[-1]: lines[key] for key in keys if key[:-1] == arm.key}, done.get(arm.label)
        if others is not None:
            both = sorted(mine.keys() & others.keys())
            mine = {i: mine[i] | {"success": others[i]["success"] | mine[i]["success"]} for i in both}
        done[arm.label] = mine
    return {label: by_seed for label, by_seed in done.items() if by_seed}


def missing_runs(runs: list[Run]) -> list[Run]:
    """Those of one protocol that have no result yet. InputError for a result that another configuration made."""
    lines = read_runs(runs[0].protocol.results)
    for run in runs:
        if run.key in lines and lines[run.key].get("result") != str(run.result):
            where = f"{run.protocol.results}/runs.jsonl: {run.arm.label}, seed {run.seed}"
            raise InputError(f"{where}: was made with another configuration; move the file away")
    return [run for run in runs if run.key not in lines]


def execute_run(run: Run, device: str, precision: str) -> None:
    """Run what is missing of a run, one thread a command, and keep its result. InputError for a command that fails."""
    env = os.environ | {"OMP_NUM_THREADS": "1", PARENT: str(os.getpid())}
    for command in run.commands(device, precision):
        done = subprocess.run([sys.executable, *command.split()], env=env, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{command}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    result = json.loads(run.result.read_text())
    episodes = {}  # of each task, in the order of the scenes
    for episode in result["episodes"]:
        episodes.setdefault(episode["task"], []).append(episode)
    line = dict(zip(FIELDS, run.key, strict=True)) | {"result": str(run.result)}
    line["success"] = {task: "".join(str(int(e["success"])) for e in rows) for task, rows in episodes.items()}
    if "--oracle score" in run.arm.evaluate:
        line["first_video_error"] = {task: [e["first_video_error"] for e in rows] for task, rows in episodes.items()}
    with open(run.folder / "log.csv", newline="") as file:
        *_, last = csv.DictReader(file)
    line["held_out"] = {name: round(float(last[name]), 4) for name in HELD_OUT if last[name] != "nan"}
    add_run(run.protocol.results, line | {"ms_per_decision": result["timing"]["ms_per_decision"]})


def execute_runs(name: str, runs: list[Run], jobs: int, device: str, precision: str) -> list[BaseException]:
    """Run what is missing of a question -> the failures. Runs that share a generator follow each other, as a group,
    which ends where one fails; groups run side by side.
    """
    groups = {}
    for run in (missing := missing_runs(runs)):
        groups.setdefault(run.generator_run().folder, []).append(run)
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(missing), desc=name, unit="run") as bar:

        def execute(group):
            for run in group:
                execute_run(run, device, precision)
                bar.update()

        try:
            failures = [future.exception() for future in [pool.submit(execute, group) for group in groups.values()]]
        except SystemExit as stop:  # Ctrl-C, SIGTERM: the commands end with this process, and save
            os._exit(stop.code)
    return [failure for failure in failures if failure]
