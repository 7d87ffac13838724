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
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import partial
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

    def bases(self) -> dict[str, "Run"]:
        """The runs of the same seed that this one's policy is trained from, by the flag that names them."""
        return {flag: replace(self, arm=arm) for flag, arm in self.arm.bases.items()}

    def all_bases(self) -> list["Run"]:
        """These runs and those that they are trained from, in the order in which they are made."""
        return list(dict.fromkeys(run for base in self.bases().values() for run in (*base.all_bases(), base)))

    def train_flags(self) -> str:
        """Flags that determine the policy: the protocol's and the arm's."""
        p, bases = self.protocol, " ".join(f"{flag} {run.folder}" for flag, run in self.bases().items())
        fixed = f"--preset {p.preset} --data {p.data} --demos {p.demos} --steps {p.steps} --head-steps {p.head_steps}"
        return f"{fixed} --seed {self.seed} {self.with_tasks(self.arm.train)} {bases}".strip()

    def evaluate_flags(self) -> str:
        """How the policy is evaluated."""
        fixed = f"--episodes {self.protocol.episodes} --seed 2 --films 0 --workers 1"
        return f"{fixed} {self.with_tasks(self.arm.evaluate)}"

    def with_tasks(self, flags: str) -> str:
        """An arm's flags, with the protocol's tasks where the arm names none."""
        return flags if "--tasks" in flags else f"--tasks {self.protocol.tasks} {flags}".strip()

    def train_command(self, device: str, precision: str) -> str:
        """The command line that trains its policy, or goes on with that; nothing where it has been trained."""
        if (self.folder / "curves.png").exists():  # the last file that train.py writes
            return ""
        flags, fields = self.train_flags(), f"--set precision={precision} eval_every=1e9"
        flags = flags.replace("--set", fields, 1) if "--set" in flags else f"{flags} {fields}"
        if (self.folder / "resume.pt").exists():
            flags = "--resume"
        return f"train.py --run {self.folder} --device {device} {flags}"

    def evaluate_command(self, device: str) -> str:
        """The command line that evaluates its policy."""
        other = re.search("--oracle|--read-sigma|--pixels", self.arm.evaluate)
        program = "-m ablations.readout" if other else "evaluate.py"
        return f"{program} --run {self.folder} --out {self.result.name} --device {device} {self.evaluate_flags()}"

    def commands(self, device: str, precision: str) -> list[str]:
        """All command lines that are still to be run, in their order."""
        trained = [run.train_command(device, precision) for run in (*self.all_bases(), self)]
        return [*filter(None, trained), self.evaluate_command(device)]


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
    """Those of one protocol without a result, each once. InputError for a result that another configuration made."""
    lines = read_runs(runs[0].protocol.results) if runs else {}  # base has no pretraining
    for run in runs:
        if run.key in lines and lines[run.key].get("result") != str(run.result):
            where = f"{run.protocol.results}/runs.jsonl: {run.arm.label}, seed {run.seed}"
            raise InputError(f"{where}: was made with another configuration; move the file away")
    return list({run.key: run for run in runs if run.key not in lines}.values())


def run_command(command: str) -> None:
    """Run a command line with one thread; InputError where it fails."""
    if command:
        env = os.environ | {"OMP_NUM_THREADS": "1", PARENT: str(os.getpid())}
        done = subprocess.run([sys.executable, *command.split()], env=env, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{command}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")


def keep_result(run: Run) -> None:
    """Add the line of a run that has been evaluated."""
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


def execute_runs(runs: list[Run], jobs: int, device: str, precision: str) -> None:
    """Train and evaluate runs, `jobs` at a time, each policy once; the first failure is raised at the end."""
    steps, done, running, failures = {}, set(), {}, []  # steps: {file or folder: (those that it needs, function)}

    def evaluate(run):
        run_command(run.evaluate_command(device))
        keep_result(run)
        bar.update()

    for run in runs:
        for each in (*run.all_bases(), run):
            needs = [base.folder for base in each.bases().values()]
            steps.setdefault(each.folder, (needs, partial(run_command, each.train_command(device, precision))))
        steps[run.result] = [run.folder], partial(evaluate, run)
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(runs), desc="ablations", unit="run") as bar:
        while True:
            ready = [name for name, (needs, _) in steps.items() if done.issuperset(needs)]
            for name in ready[: jobs - len(running)]:
                running[pool.submit(steps.pop(name)[1])] = name
            if not running:
                break
            try:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
            except SystemExit as stop:  # Ctrl-C, SIGTERM: the commands end with this process, and save
                os._exit(stop.code)
            for future in finished:
                name = running.pop(future)
                failures += [error for error in [future.exception()] if error]
                done.update([name] if not future.exception() else ())
    for failure in failures[:1]:
        raise failure
