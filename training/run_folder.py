"""The run folder: what a training run leaves behind, and what it needs to go on after a kill."""

import csv
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cli import InputError, replacing
from model.checkpoint import brief, load_file, save_file

COLUMNS = ("stage", "step", "seconds", "video", "action", "lr", "grad_norm")
COLUMNS += ("psnr_dream", "psnr_one_pass", "psnr_copy", "action_error")  # see figures.dream_error


@dataclass
class TrainState:
    """Where a run stands: all that --resume needs beside the weights. train.training_loop keeps it up to date."""

    stage: int = 0
    step: int = 0  # of this stage
    seconds: float = 0.0  # of this stage
    cache_seconds: float = 0.0  # ... of which went by before its first step, to cache features
    optimizers: list | None = None  # their saved states until the stage's loop picks them up
    average: list | None = None  # averaged weights of what this stage trains
    trained: list = field(default_factory=list)  # the parameters they belong to

    def next_stage(self):
        """This stage is done; forget what only it needed."""
        self.stage, self.step, self.seconds, self.cache_seconds = self.stage + 1, 0, 0.0, 0.0
        self.optimizers, self.average, self.trained = None, None, []


@contextmanager
def averaged(state):
    """Within the block, the parameters in training hold their averaged values."""
    live = [p.detach().clone() for p in state.trained]
    with torch.no_grad():
        for p, average in zip(state.trained, state.average or [], strict=True):
            p.copy_(average)
        yield
        for p, value in zip(state.trained, live, strict=True):
            p.copy_(value)


def start_run(folder):
    """Make the run folder. One that holds anything but a run killed before its first save is never written over."""
    taken = folder.exists() and (
        not folder.is_dir()
        or {f.name for f in folder.iterdir()}
        - {"args.json", "part.args.json", "log.csv", "part.log.csv", "samples", "resume.pt.part"}
    )
    if taken:
        raise InputError(f"--run {folder}: is taken; continue it with --resume or choose another name")
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    (folder / "log.csv").unlink(missing_ok=True)


# Where and how often, not what; and where the generator came from, once it is there.
FREE_ON_RESUME = ("resume", "run", "data", "videos", "generator", "device", "eval_every")


def resumed_flags(parser, folder, argv):
    """The flags in args.json; one given anew must agree with it. Raises InputError."""
    path = folder / "args.json"
    try:
        saved = json.loads(path.read_text())
        counts = (saved["steps"], saved["head_steps"])
        choices = {action.dest: action.choices for action in parser._actions if action.choices}
        known = all(saved[name] in choices[name] for name in ("preset", "method", "precision"))
        if not (known and isinstance(saved["tasks"], list) and all(type(n) is int and n > 0 for n in counts)):
            raise ValueError
        parser.set_defaults(**saved | {name: Path(saved[name]) for name in ("data", "videos") if saved[name]})
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: missing or damaged, nothing to resume; start the run without --resume") from None
    args = parser.parse_args(argv)
    for name, value in ({name: parser.get_default(name) for name in vars(args)} | saved).items():
        if name not in FREE_ON_RESUME and getattr(args, name, value) != value:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: the run in {folder} was started with {value}; leave it out or start a new run")
    return args


def restore(folder, policy, state, device):
    """Load resume.pt into policy and state. Raises InputError, CheckpointError."""
    saved = load_file(folder / "resume.pt", device)
    try:
        policy.load_state_dict(saved["weights"])
        state.stage, state.step, state.seconds = int(saved["stage"]), int(saved["step"]), float(saved["seconds"])
        state.optimizers, state.average = saved["optimizers"], saved["average"]
        if (state.optimizers is None) != (state.average is None):
            raise ValueError("optimizers and average do not belong together")
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = f"does not fit the flags in args.json ({brief(error)})"
        raise InputError(f"{folder}/resume.pt: {reason}; start a new run") from None


def save(folder, policy, state):
    """policy.pt, the averaged weights to act with, and resume.pt, all that a killed run needs to go on."""
    optimizers = state.optimizers and [optimizer.state_dict() for optimizer in state.optimizers]
    resume = {"weights": policy.state_dict(), "optimizers": optimizers, "average": state.average}
    save_file(resume | {"stage": state.stage, "step": state.step, "seconds": state.seconds}, folder / "resume.pt")
    with averaged(state):
        policy.save(folder / "policy.pt")


def write_json(path, contents, indent=1):
    """Write a file of JSON."""
    with replacing(path) as part:
        part.write_text(json.dumps(contents, indent=indent) + "\n")


class Log:
    """log.csv: one row per step, with the held-out measures on the rows where they were taken."""

    def __init__(self, path, state):
        kept = []
        if path.exists():  # a resumed run: drop what the last save does not know of, and a row that was cut short
            with open(path, newline="") as file:
                whole = [row for row in csv.DictReader(file) if None not in row.values() and row["step"].isdigit()]
            kept = [row for row in whole if (int(row["stage"]), int(row["step"])) <= (state.stage, state.step)]
        with replacing(path) as part, open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)
        self.file = open(path, "a", newline="")
        self.writer = csv.DictWriter(self.file, COLUMNS, extrasaction="ignore")

    def write(self, row):
        self.writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        self.file.flush()
