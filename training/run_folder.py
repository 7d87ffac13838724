"""The run folder: what a training run leaves behind, and what it needs to go on after a kill."""

import csv
import io
import json
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from model.checkpoint import brief, check_tensors, load_file, save_file
from training.optimizers import load_states
from util.cli import exit_at_next_signal
from util.files import InputError, check_fields, locked, write_file

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
    ema: list | None = None  # averaged weights of what this stage trains
    trained: list = field(default_factory=list)  # the parameters they belong to
    path: Path | None = None  # of the file that they came from
    stop: int = 0  # the signal that asked the run to save and end, if there was one

    def next_stage(self):
        """This stage is done; forget what only it needed."""
        self.stage, self.step, self.seconds, self.cache_seconds = self.stage + 1, 0, 0.0, 0.0
        self.optimizers, self.ema, self.trained = None, None, []


@contextmanager
def ema_scope(state):
    """Within the block, the parameters in training hold their averaged values."""
    live = [p.detach().clone() for p in state.trained]
    with torch.no_grad():
        for p, ema in zip(state.trained, state.ema or [], strict=True):
            p.copy_(ema)
        yield
        for p, value in zip(state.trained, live, strict=True):
            p.copy_(value)


@contextmanager
def stop_between_steps(state, rank):
    """Within the block the first Ctrl-C or SIGTERM is kept in state.stop, and the second ends the process at once.

    Of several processes the first one decides, and the others heed no signal.
    """

    def ask(number, _):
        state.stop = number
        exit_at_next_signal()
        print("\nstopping after this step; --resume goes on; once more to stop at once", file=sys.stderr)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, signal.SIG_IGN if rank else ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# What a run that was killed before its first save leaves behind: anything else is never written over.
LEFTOVERS = {"args.json", "log.csv", "samples", "part.args.json", "part.log.csv", "part.resume.pt"}


@contextmanager
def run_folder(folder, resume, rank):
    """Make the run folder, or find the one to resume, and keep other runs out of it while the block lasts."""
    if rank > 0:
        yield
        return
    if not resume:
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "another process trains here; wait for it or choose another --run"):
        if not resume:
            if {f.name for f in folder.iterdir()} - LEFTOVERS:
                raise InputError(f"--run {folder}: is taken; continue it with --resume or choose another name")
            (folder / "samples").mkdir(exist_ok=True)
            (folder / "log.csv").unlink(missing_ok=True)
        yield


# Flags that may change when a run goes on: where and how often, not what is learned.
FREE_ON_RESUME = ("resume", "run", "data", "videos", "generator", "device", "eval_every")


def resumed_flags(parser, folder, argv):
    """The flags in args.json, checked as if they were given anew; one that is given must agree. Raises InputError."""
    path = folder / "args.json"

    def damaged(reason):
        remedy = "nothing to resume; move the folder away and start anew"
        raise InputError(f"{path}: missing or damaged ({brief(reason)}), {remedy}") from None

    try:
        saved = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        damaged(error)
    words = []
    for action in parser._actions:
        value = saved.get(action.dest)
        if action.nargs == 0:
            words += action.option_strings[:1] if value else action.option_strings[1:] if value is False else []
        elif value not in (None, []):
            words += [action.option_strings[0], *map(str, value if isinstance(value, list) else [value])]
    parser.error, complain = damaged, parser.error
    then = vars(parser.parse_args(words))
    parser.error = complain
    wrong = [name for name in then if str(saved.get(name, then[name])) != str(then[name])]
    wrong += [name for name in ("steps", "head_steps", "trained_tasks") if not saved.get(name)]
    if wrong:
        damaged(f"field {wrong[0]} is {saved.get(wrong[0])!r}")
    parser.set_defaults(**then)
    args = parser.parse_args(argv)
    args.data_hash = saved.get("data_hash")
    for name, value in then.items():
        if name not in FREE_ON_RESUME and getattr(args, name) != value:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: the run in {folder} was started with {value}; leave it out or start a new run")
    return args


def restore(folder, policy, state, stages, device):
    """Load resume.pt into policy and state; InputError, CheckpointError where it does not fit the flags."""
    state.path = folder / "resume.pt"
    if not state.path.exists():
        raise InputError(f"{state.path}: nothing was saved yet; start it again without --resume")
    saved = load_file(state.path, device)
    with fitting(state.path):
        check_fields(saved, {"stage": (int, 0, stages), "step": (int, 0, 1e9), "seconds": (float, 0, 1e9)})
        check_tensors(saved["weights"], policy.state_dict())
        policy.load_state_dict(saved["weights"])
        state.stage, state.step, state.seconds = saved["stage"], saved["step"], float(saved["seconds"])
        state.optimizers, state.ema = saved["optimizers"], saved["ema"]


def pick_up(state, optimizers, parameters, steps):
    """Begin or continue a stage that trains `parameters` in so many steps; InputError where resume.pt does not fit."""
    if state.optimizers is None and state.step == 0:
        state.ema = [p.detach().clone() for p in parameters]
    else:
        with fitting(state.path):
            if state.step > steps:
                raise ValueError(f"field step is {state.step}, the stage has {steps}")
            load_states(optimizers, state.optimizers)
            check_tensors(dict(enumerate(state.ema)), dict(enumerate(parameters)))
    state.optimizers, state.trained = optimizers, parameters


@contextmanager
def fitting(path):
    """What a crafted or foreign resume.pt makes of the code in the block is an InputError."""
    try:
        yield
    except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = f"does not fit the flags in args.json ({brief(error)})"
        raise InputError(f"{path}: {reason}; start a new run") from None


def save(folder, policy, state):
    """policy.pt, the averaged weights to act with, and resume.pt, all that a killed run needs to go on."""
    optimizers = state.optimizers and [optimizer.state_dict()["state"] for optimizer in state.optimizers]
    resume = {"weights": policy.state_dict(), "optimizers": optimizers, "ema": state.ema}
    save_file(resume | {"stage": state.stage, "step": state.step, "seconds": state.seconds}, folder / "resume.pt")
    with ema_scope(state):
        policy.save(folder / "policy.pt")


class Log:
    """log.csv: one row per step, with the held-out measures on the rows where they were taken."""

    def __init__(self, path, state):
        kept = []
        if path.exists():  # a resumed run: drop what the last save does not know of, and a row that was cut short
            with open(path, newline="") as file:
                rows = [row for row in csv.DictReader(file) if set(row) == set(COLUMNS) and None not in row.values()]
            whole = [row for row in rows if row["stage"].isdigit() and row["step"].isdigit()]
            kept = [row for row in whole if (int(row["stage"]), int(row["step"])) <= (state.stage, state.step)]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(kept)
        write_file(path, text.getvalue())
        self.file = open(path, "a", newline="")
        self.writer = csv.DictWriter(self.file, COLUMNS, extrasaction="ignore")

    def write(self, row):
        self.writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        self.file.flush()
