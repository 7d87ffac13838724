"""What runs the arms: the commands of a run, its result as a file, and the order in which runs follow each other.

A run is an arm and a training seed. Its result is results/<preset>/runs/<name>.json; its policy lies in runs/ablate.
"""

import csv
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ablations import plots, statistics
from ablations.flops import training_flops
from ablations.protocol import PROTOCOLS, Arm, Claim, rows_of
from data.robomimic import read_clips
from data.windows import Windows
from training.color_jitter import MATRIX_STD, STAIN_GRID, STAIN_STD
from training.config import TRAIN_PRESETS
from training.device import faster_precision, processor
from util.cli import PARENT
from util.figures import dream_error
from util.files import InputError, read_json, write_json
from videopolicy import PRESETS, Config, VideoPolicy

POLICIES, RESULTS = Path("runs/ablate"), Path("results")
# What policies differ in otherwise than by how well they learned: these are left out where dreams are compared.
OTHER = {"bc", "frozen_random", "--shift", "--oracle", "--video-steps", "--execute", "--video-horizon", "--decoder",
         "--labelled", "--generator", "--color-jitter", "--videos"}  # fmt: skip
MAX_SEEDS = 100  # training seeds of an arm are smaller numbers
DREAM_DEMOS = 200  # dreams are measured on the held-out ones of so many first demos, the same for every amount of data


def config_hash(preset: str) -> str:
    """A short hash of what shapes a policy and no flag says: networks and training. (Every protocol says what the input
    at sigma_max is.)

    The terms are spelled out here, so that a field that is renamed in Python leaves results what they are.
    """
    c, t = Config(**PRESETS[preset]), TRAIN_PRESETS[preset]
    terms = {
        "cameras": c.cameras, "image size": c.image_size, "video frames": c.video_frames,
        "video stride": c.video_stride, "action horizon": c.action_horizon, "action size": c.action_size,
        "patch": c.patch, "widths": c.widths, "blocks": c.blocks, "attention": c.attention, "embedding": c.embed,
        "prediction": c.prediction, "prompt words": c.prompt_words, "prompt width": c.prompt_width,
        "prompt dropout": c.prompt_dropout, "decoder": c.decoder, "pair encoder widths": c.pair_widths,
        "head channels": c.squeeze, "head grid": c.grid, "head width": c.head_width, "head dropout": c.head_dropout,
        "video sigma": (c.video_sigma_mean, c.video_sigma_std), "sigma range": (c.sigma_min, c.sigma_max),
        "action sigma": (c.action_sigma_mean, c.action_sigma_std), "action denoising steps": c.action_steps,
        "batch size": t.batch_size, "optimizer": "Muon" if t.muon else "AdamW", "learning rate": t.lr,
        "head learning rate": t.head_lr, "weight decay": t.weight_decay, "momentum": t.momentum, "betas": t.betas,
        "gradient clip": t.max_grad_norm, "warmup": t.warmup, "cooldown": t.cooldown, "weight average": t.ema_decay,
        "share at sigma_max": t.p_sigma_max, "cached windows": t.cache_size, "noise per window": t.noise_per_window,
        "head batch size": t.head_batch, "color jitter": (MATRIX_STD, STAIN_STD, STAIN_GRID),
    }  # fmt: skip
    return short_hash(json.dumps(terms, sort_keys=True))


def merge(*lines: str) -> dict[str, str]:
    """Command lines as {flag: its values}; where a flag is repeated, the later line counts."""
    options = (option.partition(" ") for option in " ".join(["", *lines]).split(" --")[1:])
    return {f"--{flag}": values.strip() for flag, _, values in options}


def words(flags: dict[str, str]) -> list[str]:
    """{flag: its values} as the words of a command line."""
    return " ".join(f"{flag} {values}" for flag, values in flags.items()).split()


def short_hash(text: str) -> str:
    """Eight hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def slug(flags: str) -> str:
    """Flags as part of a file name; long ones are cut and told apart by a hash."""
    text = "_".join(word.lstrip("-").replace(".", "p") for word in flags.split()) or "plain"
    return text if len(text) <= 60 else f"{text[:50]}_{short_hash(text)}"


@dataclass(frozen=True)
class Run:
    """An arm with a training seed: the commands that make it, and where they leave what."""

    arm: Arm
    preset: str
    seed: int

    @property
    def policy_flags(self) -> str:
        """What tells its policy from others, as flags; the generator of the plain two_stage run goes unnamed."""
        of = self.arm.generator_of
        return f"--generator {of.train} {self.arm.train}" if of and of.train else self.arm.train

    @property
    def name(self) -> str:
        return f"{slug(f'{self.policy_flags} {self.arm.evaluate}')}_seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Of its policy, named with a hash of all that made it: that of another protocol is never taken for it."""
        made_by = short_hash(" ".join([*words(self.train_flags()), config_hash(self.preset)]))
        return POLICIES / self.preset / f"{slug(self.policy_flags)}_seed{self.seed}_{made_by}"

    def generator_run(self) -> "Run":
        """The run whose generator this one's policy has: its own, or that of another arm and the same seed."""
        return replace(self, arm=self.arm.generator_of or self.arm)

    def train_flags(self) -> dict[str, str]:
        """What determines the policy: the protocol's flags and the arm's, not where or in what precision it is made."""
        p = PROTOCOLS[self.preset]
        fixed = f"--preset {self.preset} --data {p.data} --demos {p.demos} --steps {p.steps} {p.flags}"
        generator = f"--generator {self.generator_run().folder}" if self.arm.generator_of else ""
        tasks = f"--head-steps {p.head_steps} --seed {self.seed} --tasks {p.tasks}"
        return merge(fixed, tasks, self.arm.train, generator)

    def evaluate_flags(self) -> dict[str, str]:
        """How the policy is tried."""
        p = PROTOCOLS[self.preset]
        fixed = f"--tasks {p.tasks} --episodes {p.episodes} --films 0 --workers 1"
        return merge(fixed, self.arm.evaluate, f"--out eval_{slug(self.arm.evaluate)}.json")

    def protocol(self) -> dict:
        """What must be the same for two results to be comparable, as it is kept in a result."""
        place = ["--run", str(self.folder)]
        return {"train": ["train.py", *words(self.train_flags()), *place],
                "evaluate": ["evaluate.py", *place, *words(self.evaluate_flags())],
                "config": config_hash(self.preset)}  # fmt: skip

    def commands(self, device: str, precision: str) -> list[list[str]]:
        """What is still to be run, on a device: training, of the generator's run as well, and evaluation."""
        missing = []
        for run in dict.fromkeys((self.generator_run(), self)):
            if not (run.folder / "curves.png").exists():  # the last file that train.py writes
                begun = (run.folder / "resume.pt").exists()
                fresh = [*run.protocol()["train"], "--precision", precision]
                start = ["train.py", "--run", str(run.folder), "--resume"] if begun else fresh
                missing.append([*start, "--eval-every", "1e9"])
        return [[*command, "--device", device] for command in (*missing, self.protocol()["evaluate"])]


class Children:
    """The commands that run side by side."""

    def __init__(self):
        self.started, self.stopped = [], False

    def add(self, child: subprocess.Popen) -> None:
        self.started.append(child)
        if self.stopped:  # it began while the others were stopped
            child.terminate()

    def stop(self) -> None:
        """End them all; they save, and are gone on with next time."""
        self.stopped = True
        for child in self.started:
            child.terminate()


def call(command: list[str], children: Children) -> None:
    """Run a command on one thread; InputError with the last line that it said where it fails."""
    env = os.environ | {"OMP_NUM_THREADS": "1", PARENT: str(os.getpid())}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *command], env=env, **pipes) as child:
        children.add(child)
        _, told = child.communicate()
    if child.returncode:
        raise InputError(f"{shlex.join(command)}: {(told.strip() or 'failed').splitlines()[-1]}")


def execute_run(run: Run, device: str, precision: str, children: Children) -> None:
    """Run what is missing of a run and keep its result."""
    started = time.monotonic()
    for command in run.commands(device, precision):
        call(command, children)
    found = json.loads((run.folder / run.evaluate_flags()["--out"]).read_text())
    with open(run.folder / "log.csv", newline="") as file:
        stages = {row["stage"]: float(row["seconds"]) for row in csv.DictReader(file)}  # of each its last row
    episodes = {}  # task by task, in the order of the scenes
    for episode in found["episodes"]:
        episodes.setdefault(episode["task"], []).append(episode)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    machine = {"cpu": processor(), "gpu": gpu, "torch": torch.__version__, "python": platform.python_version()}
    result = run.protocol() | {
        "device": device, "precision": json.loads((run.folder / "args.json").read_text())["precision"],
        "machine": machine | {"day": time.strftime("%Y-%m-%d")},
        "train_seconds": round(sum(stages.values()), 1),  # without a generator that was loaded
        "seconds": round(time.monotonic() - started), "ms_per_decision": found["timing"]["ms_per_decision"],
        "train_flops": count_flops(run),
        "policy": found["protocol"]["policy"], "dream": held_out_dream(run, device),
        "first_scene": found["episodes"][0]["seed"],
        "won": {task: "".join(str(int(e["success"])) for e in row) for task, row in episodes.items()},
    }  # fmt: skip
    for field in ("dream_error", "first_dream_error", "expert_steps"):
        if any(e.get(field) is not None for e in found["episodes"]):
            result[field] = {task: [e[field] for e in row] for task, row in episodes.items()}
    path = RESULTS / run.preset / "runs" / f"{run.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result, indent=None)


def count_flops(run: Run) -> float:
    """ablations.flops.training_flops of a run's policy, with the generator that it loads."""
    flags = json.loads((run.folder / "args.json").read_text())
    said = {field: flags[field] for field in ("steps", "head_steps", "action_noise_samples")}
    config, network = replace(TRAIN_PRESETS[run.preset], **said), VideoPolicy.load(run.folder / "policy.pt").config
    if (of := run.arm.generator_of) and "--method" in of.train:  # no stage 1 made it: it took all of that run
        return count_flops(run.generator_run()) + training_flops(network, config, "frozen_random")
    return training_flops(network, config, flags["method"])


def held_out_dream(run: Run, device: str) -> dict[str, float]:
    """figures.dream_error of a policy on held-out demos of the tasks that it is tried on."""
    torch.set_num_threads(1)  # this thread computes beside the commands of other runs
    policy, flags = VideoPolicy.load(run.folder / "policy.pt", device), run.train_flags()
    c, demos, clips = policy.config, min(int(flags["--demos"]), DREAM_DEMOS), []
    p = PROTOCOLS[run.preset]
    data = p.data if flags["--data"] == p.play else flags["--data"]  # play is in no task's sentence
    for task in run.evaluate_flags()["--tasks"].split():
        path = Path(data) / f"{task}.hdf5"
        clips += read_clips(path, task, cameras=c.cameras, size=c.image_size, demos=demos)[1]
    numbers, _ = dream_error(policy, Windows(clips, c), count=64)
    return {name: round(number, 4) for name, number in numbers.items()}


def read_result(run: Run) -> dict | None:
    """A run's result, None where there is none yet. InputError for one of another protocol."""
    path = RESULTS / run.preset / "runs" / f"{run.name}.json"
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text())
        same = all(result[field] == value for field, value in run.protocol().items())
        statistics.successes([result])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: damaged; delete it, and its run is made again") from None
    if not same:
        raise InputError(f"{path}: is of another protocol; move its set away")
    return result


# -------------------------------------------------------------------- many runs


def data_folders(runs: list[Run]) -> list[str]:
    """The folders of demonstrations that runs train on, once each."""
    every = [run.train_flags() for run in runs]
    return list(dict.fromkeys(flags[flag] for flags in every for flag in ("--data", "--videos") if flag in flags))


def job_groups(runs: list[Run]) -> list[list[Run]]:
    """Runs that must follow each other: those that try the same policy, and those that load its generator."""
    groups = {}
    for run in runs:
        groups.setdefault(run.generator_run().folder, []).append(run)
    return [sorted(group, key=lambda run: run.arm.generator_of is not None) for group in groups.values()]


def execute_runs(runs: dict[str, list[Run]], jobs: int, device: str) -> None:
    """Run what is missing of each ablation, one after the other, and groups side by side.

    A run that fails ends its group; the first failure is raised at the end.
    """
    precision = faster_precision(torch.device(device))  # once: measured run by run it could differ between arms
    failures = []
    for name, of_name in runs.items():
        if missing := [run for run in of_name if read_result(run) is None]:  # an earlier one may have made it
            failures += execute_groups(job_groups(missing), jobs, device, precision, name)
    for failure in filter(None, failures):
        raise failure


def execute_groups(groups: list[list[Run]], jobs: int, device: str, precision: str, title: str) -> list:
    """Run groups side by side -> of each its exception, or None."""
    children = Children()
    bar = tqdm(total=sum(map(len, groups)), desc=title, unit="run")

    def execute(group):
        for run in group:
            if not children.stopped:
                execute_run(run, device, precision, children)
                bar.update()

    pool = ThreadPoolExecutor(jobs)
    try:
        return [future.exception() for future in [pool.submit(execute, group) for group in groups]]
    except BaseException:  # Ctrl-C, SIGTERM
        children.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()


def complete(arm: Arm, preset: str, seeds: int) -> dict[int, dict]:
    """The results of an arm by training seed, as far as there are any; {} while there are fewer than `seeds`."""
    found = {seed: result for seed in range(MAX_SEEDS) if (result := read_result(Run(arm, preset, seed)))}
    return found if len(found) >= seeds else {}


def dreams_and_success(preset: str) -> str:
    """Is a better dream a better policy? Over all arms of a preset that learned from video of 32 steps, decided in one
    pass and met no shift: writes results/<preset>/dreams.json and its plot -> a line about them.

    An arm is the mean of its training seeds: they are alike, and would not count as so many policies.
    """
    arms = {}
    for path in sorted((RESULTS / preset / "runs").glob("*.json")):
        result = read_json(path)
        if not isinstance(result, dict):
            raise InputError(f"{path}: damaged; delete it, and its run is made again")
        if "dream" in result and not OTHER & {*result["train"], *result["evaluate"]}:
            arms.setdefault(path.stem.rpartition("_seed")[0], []).append(result)
    if len(arms) < 10:
        return f"dreams and success: {len(arms)} arms of {preset}, too few"

    def means(of):
        return np.array([np.mean([of(result) for result in results]) for results in arms.values()])

    gain = means(lambda result: result["dream"]["psnr_one_pass"] - result["dream"]["psnr_copy"])
    won = means(lambda result: statistics.successes([result]).mean())
    measured = {"dream": gain, "action error": means(lambda result: result["dream"]["action_error"])}
    tasks = [" ".join(results[0]["won"]) for results in arms.values()]
    ranks = statistics.ranks_within(won, tasks)  # policies of other tasks are not better or worse
    kept = {name: dict(zip(("rho", "low", "high"), statistics.rank_correlation(
                statistics.ranks_within(x, tasks), ranks), strict=True))
            for name, x in measured.items()}  # fmt: skip
    write_json(RESULTS / preset / "dreams.json", {"arms": len(arms), "spearman": kept})
    plots.plot_dreams(measured, won, RESULTS / preset / "dreams.png")
    told = "; ".join("success by {} {rho:+.2f} [{low:+.2f}, {high:+.2f}]".format(n, **k) for n, k in kept.items())
    return f"Spearman's rank correlation over {len(arms)} arms: {told}"


def summarise(name: str, preset: str, seeds: int) -> list[str]:
    """Write results/<preset>/<name>.json and its plot from the finished runs -> rows of the table of claims."""
    protocol = PROTOCOLS[preset]
    arms = {arm.label: arm for arm in rows_of(Arm, name, protocol)}
    done = {label: results for label, arm in arms.items() if (results := complete(arm, preset, seeds))}
    listed = {label: [*of_seed.values()] for label, of_seed in done.items()}
    table = statistics.tabulate(arms, listed)
    told = [statistics.judge(claim, f"ablate.py --only {name}", done) for claim in rows_of(Claim, name, protocol)]
    if table:
        machines = sorted({json.dumps(result["machine"]) for results in listed.values() for result in results})
        found = {"arms": table, "claims": [kept for kept, _ in told if kept], "machines": [*map(json.loads, machines)]}
        write_json(RESULTS / preset / f"{name}.json", found)
        plots.plot(name, table, listed, RESULTS / preset / f"{name}.png")
    return [row for _, row in told]
