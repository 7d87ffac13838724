"""What runs the arms: the commands of a run, what is kept of it, and the order in which runs follow each other.

A run is an arm and a training seed. It is one line of <results>/runs.jsonl; its policy lies in runs/ablate.
"""

import csv
import fcntl
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from ablations.protocol import Arm, Protocol
from ablations.statistics import successes
from train import PRESETS
from training.device import faster_precision, processor
from util.cli import PARENT
from util.files import InputError, write_file

POLICIES = Path("runs/ablate")
FIELDS = ("train", "generator", "evaluate", "seed")  # of a line, what tells it from others
READOUT = {"--oracle", "--read-sigma"}  # flags of ablations/readout.py, which evaluate.py does not have


def merge(*lines: str) -> dict[str, str]:
    """Command lines as {flag: its values}; where a flag is repeated, the later line counts."""
    options = (option.partition(" ") for option in " ".join(["", *lines]).split(" --")[1:])
    return {f"--{flag}": values.strip() for flag, _, values in options}


def words(flags: dict[str, str]) -> list[str]:
    """{flag: its values} as the words of a command line."""
    return " ".join(f"{flag} {values}" for flag, values in flags.items()).split()


def short_hash(contents: object) -> str:
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
        """Of its policy, named with a hash of all that made it, so that no other protocol's policy is taken for it."""
        made_by = short_hash([words(self.train_flags()), *map(asdict, PRESETS[self.protocol.preset])])
        text = re.sub(r"[^\w.=-]+", "_", " ".join(self.arm.key[:2]).replace("--", "").strip())[:60] or "two_stage"
        return POLICIES / self.protocol.preset / f"{text}_seed{self.seed}_{made_by}"

    @property
    def config(self) -> str:
        """A hash of all that its result depends on but device and precision."""
        return short_hash([str(self.folder), words(self.evaluate_flags())])

    def generator_run(self) -> "Run":
        """The run whose generator this one's policy has: its own, or that of another arm and the same seed."""
        return replace(self, arm=self.arm.generator or self.arm)

    def train_flags(self) -> dict[str, str]:
        """What determines the policy: the protocol's flags and the arm's."""
        p = self.protocol
        fixed = f"--preset {p.preset} --data {p.data} --demos {p.demos} --steps {p.steps} --head-steps {p.head_steps}"
        generator = f"--generator {self.generator_run().folder}" if self.arm.generator else ""
        return merge(fixed, f"--seed {self.seed} --tasks {p.tasks}", self.arm.train, generator)

    def evaluate_flags(self) -> dict[str, str]:
        """How the policy is evaluated."""
        fixed = f"--tasks {self.protocol.tasks} --episodes {self.protocol.episodes} --films 0 --workers 1"
        return merge(fixed, self.arm.evaluate, f"--out eval_{short_hash(self.arm.evaluate)}.json")

    def commands(self, device: str, precision: str) -> list[list[str]]:
        """What is still to be run: training, that of the generator's run before it, and the evaluation."""
        missing = []
        for run in dict.fromkeys((self.generator_run(), self)):
            place = ["--run", str(run.folder), "--device", device]
            if (run.folder / "curves.png").exists():  # the last file that train.py writes
                continue
            if (run.folder / "resume.pt").exists():
                missing.append(["train.py", *place, "--resume"])
                continue
            flags = run.train_flags()
            fields = f"{flags.pop('--set', '')} precision={precision} eval_every=1e9".split()
            missing.append(["train.py", *place, *words(flags), "--set", *fields])
        flags = self.evaluate_flags()
        program = ["-m", "ablations.readout"] if READOUT & {*flags} else ["evaluate.py"]
        return [*missing, [*program, "--run", str(self.folder), "--device", device, *words(flags)]]


def read_runs(folder: Path | str) -> dict[tuple, dict]:
    """The lines of a set's runs.jsonl by Run.key, {} where there is none; of two lines of one run the later counts.

    InputError names a damaged line.
    """
    path, lines = Path(folder) / "runs.jsonl", {}
    for number, text in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
        try:
            line = json.loads(text)
            successes([line])
            lines[tuple(line[name] for name in FIELDS)] = line
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{path}: line {number} is damaged; delete it, and its run is made again") from None
    return lines


def add_run(folder: Path | str, line: dict) -> None:
    """Add a line to a set's runs.jsonl; other threads and processes wait meanwhile."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path, lock = folder / "runs.jsonl", os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = path.read_text() if path.exists() else ""
        write_file(path, before + json.dumps(line) + "\n")
    finally:
        os.close(lock)


def results_of(arms: list[Arm], lines: dict[tuple, dict], seeds: int | None = None) -> dict[str, dict[int, dict]]:
    """{label: {training seed: line}} of the arms that have any; seeds: only those below that number."""
    done = {arm.label: {} for arm in arms}
    for *key, seed in sorted(key for key in lines if seeds is None or key[-1] < seeds):
        for arm in arms:
            if arm.key == tuple(key):
                done[arm.label][seed] = lines[*key, seed]
    return {label: by_seed for label, by_seed in done.items() if by_seed}


def missing_runs(runs: list[Run]) -> list[Run]:
    """Those of one protocol that have no result yet. InputError for a result that another configuration made."""
    lines = read_runs(runs[0].protocol.results)
    for run in runs:
        if lines.get(run.key, {}).get("config", run.config) != run.config:
            where = f"{run.protocol.results}/runs.jsonl: {run.arm.label}, seed {run.seed}"
            raise InputError(f"{where}: was made with another configuration; move the file away")
    return [run for run in runs if run.key not in lines]


def execute_run(run: Run, device: str, precision: str) -> None:
    """Run what is missing of a run, one thread a command, and keep its result. InputError for a command that fails."""
    env = os.environ | {"OMP_NUM_THREADS": "1", PARENT: str(os.getpid())}
    for command in run.commands(device, precision):
        done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{shlex.join(command)}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    result = json.loads((run.folder / run.evaluate_flags()["--out"]).read_text())
    with open(run.folder / "log.csv", newline="") as file:
        stages = {row["stage"]: row for row in csv.DictReader(file)}  # of each its last row
    measures = ("video_psnr", "video_psnr_one_step", "copy_psnr", "action_error")
    episodes = {}  # task by task, in the order of the scenes
    for episode in result["episodes"]:
        episodes.setdefault(episode["task"], []).append(episode)
    line = dict(zip(FIELDS, run.key, strict=True)) | {"config": run.config}
    line["success"] = {task: "".join(str(int(e["success"])) for e in rows) for task, rows in episodes.items()}
    for name in ("first_video_error", "video_error"):
        if any(episode.get(name) is not None for episode in result["episodes"]):
            line[name] = {task: [e[name] for e in rows] for task, rows in episodes.items()}
    line["held_out"] = {name: round(float([*stages.values()][-1][name]), 4) for name in measures}
    line["ms_per_decision"] = result["timing"]["ms_per_decision"]
    line["train_seconds"] = round(sum(float(row["seconds"]) for row in stages.values()))  # not of a loaded generator
    machine = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
    line |= {"precision": precision, "machine": machine, "day": time.strftime("%Y-%m-%d")}
    add_run(run.protocol.results, line)


def job_groups(runs: list[Run]) -> list[list[Run]]:
    """Runs that must follow each other: those that evaluate the same policy, and those that load its generator."""
    groups = {}
    for run in runs:
        groups.setdefault(run.generator_run().folder, []).append(run)
    return [sorted(group, key=lambda run: run.arm.generator is not None) for group in groups.values()]


def execute_runs(runs: dict[str, list[Run]], jobs: int, device: str) -> None:
    """Run what is missing of each question, one after the other, and groups side by side.

    A run that fails ends its group; the first failure is raised at the end.
    """
    precision = faster_precision(torch.device(device))  # once: measured run by run it could differ between arms
    failures = []
    for name, of_question in runs.items():
        groups = job_groups(missing_runs(of_question))  # without what an earlier question has made
        with ThreadPoolExecutor(jobs) as pool, tqdm(total=sum(map(len, groups)), desc=name, unit="run") as bar:

            def execute(group, bar=bar):
                for run in group:
                    execute_run(run, device, precision)
                    bar.update()

            try:
                failures += [future.exception() for future in [pool.submit(execute, group) for group in groups]]
            except SystemExit as stop:  # Ctrl-C, SIGTERM: the commands end with this process, and save
                os._exit(stop.code)
    for failure in filter(None, failures):
        raise failure
