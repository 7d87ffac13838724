"""What stands around the training loop: the run folder, resuming, stops, held-out measures, saves."""

import argparse
import csv
import io
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from training.device import broadcast_from_rank0, rank_and_world
from util.cli import exit_at_next_signal
from util.figures import held_out_measures, save_strip
from util.files import InputError, brief, load_tensors, locked, read_json, save_tensors, write_file, write_json

SAVE_EVERY = 60.0  # seconds of work that a kill loses at most
COLUMNS = ("stage", "step", "seconds", "video", "action", "lr", "grad_norm")
COLUMNS += ("video_psnr", "video_psnr_one_step", "copy_psnr", "action_error")  # see held_out_measures
FREE_ON_RESUME = ("resume", "run", "data", "videos", "generator", "init", "device")  # where, not what is learned
# What a run that was killed before its first save leaves behind: anything else is never written over.
LEFTOVERS = {"args.json", "log.csv", "samples", "part.args.json", "part.log.csv", "part.resume.pt"}


@dataclass
class TrainState:
    """Where a run stands: all that --resume needs beside the weights. The training loop keeps it up to date."""

    finished: list = field(default_factory=list)  # names of the stages that are done
    step: int = 0  # of the present stage
    seconds: float = 0.0  # of the present stage
    optimizers: list | None = None  # as resume.pt has them, until the stage begins
    ema: list | None = None  # averaged weights of what this stage trains
    parameters: list = field(default_factory=list)  # the weights that they are averages of
    stop: int = 0  # the signal that asked the run to save and end, if there was one

    def begin(self, optimizers, parameters):
        """Begin or continue a stage that trains `parameters`."""
        if self.ema is None:
            self.ema = [p.detach().clone() for p in parameters]
        else:
            if len(optimizers) != len(self.optimizers) or [*map(len, parameters)] != [*map(len, self.ema)]:
                raise InputError("resume.pt: is of another stage or method than args.json says; start a new run")
            for optimizer, states in zip(optimizers, self.optimizers, strict=True):
                optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
        self.optimizers, self.parameters = optimizers, parameters

    def finish(self, stage):
        """This stage is done: forget what only it needed."""
        self.finished, self.step, self.seconds = [*self.finished, stage], 0, 0.0
        self.optimizers, self.ema, self.parameters = None, None, []


@contextmanager
def ema_scope(state):
    """Within the block, the parameters in training hold their averaged values."""
    live = [p.detach().clone() for p in state.parameters]
    with torch.no_grad():
        for p, ema in zip(state.parameters, state.ema or [], strict=True):
            p.copy_(ema)
        yield
        for p, value in zip(state.parameters, live, strict=True):
            p.copy_(value)


# ------------------------------------------------------------------ the folder


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


def write_args(folder, args, made_of):
    """args.json: the flags of a run, and what they led to."""
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    write_json(folder / "args.json", flags | made_of)


def read_args(args, given):
    """The flags in args.json of the run that `args` resumes; those that are `given` must agree. Raises InputError."""
    path = args.run / "args.json"
    saved = read_json(path)
    if not isinstance(saved, dict) or not {*vars(args), "data_hash", "precision"} <= set(saved):
        raise InputError(f"{path}: missing or damaged; there is nothing to resume, start a new run")
    flags = vars(args).copy()
    for name, value in flags.items():
        if name in FREE_ON_RESUME and (name in given or name == "resume"):
            continue
        if name in given and saved[name] != value:
            flag = "--" + name.replace("_", "-")
            was = f"the run in {args.run} was started with {saved[name]}"
            raise InputError(f"{flag}: {was}; leave it out or start a new run")
        as_path = name in ("data", "videos", "generator", "init") and saved[name] is not None
        flags[name] = Path(saved[name]) if as_path else saved[name]
    return argparse.Namespace(**flags | {"run": args.run})


def restore(folder, policy, state, made_of):
    """Load resume.pt into policy and state -> what the run was made of. InputError where it does not fit the flags."""
    saved, path, device = read_json(folder / "args.json"), folder / "resume.pt", policy.video_std.device
    if saved["data_hash"] != made_of["data_hash"]:
        raise InputError(f"--data: differs from what {folder} was started with; bring that back or start a new run")
    if not path.exists():
        raise InputError(f"{path}: nothing was saved yet; start again without --resume")
    found = load_tensors(path, {"weights": dict, "finished": list, "step": int, "seconds": float}, device)
    try:
        policy.load_state_dict(found.pop("weights"))
        for name, value in found.items():
            setattr(state, name, value)
    except RuntimeError as error:
        raise InputError(f"{path}: does not fit the flags in args.json ({brief(error)}); start a new run") from None
    return {name: saved[name] for name in made_of}


def save(folder, policy, state):
    """policy.pt, the averaged weights to act with, and resume.pt, all that a killed run needs to go on."""
    optimizers = state.optimizers and [optimizer.state_dict()["state"] for optimizer in state.optimizers]
    stands = {"finished": state.finished, "step": state.step, "seconds": state.seconds}
    resume = {"weights": policy.state_dict(), "optimizers": optimizers, "ema": state.ema}
    save_tensors(resume | stands, folder / "resume.pt")
    with ema_scope(state):
        policy.save(folder / "policy.pt")


class Log:
    """log.csv: one row per step, with the held-out measures on the rows where they were taken."""

    def __init__(self, path, state):
        kept = []
        if path.exists():  # a resumed run: drop what the last save does not know of, and a row that was cut short
            with open(path, newline="") as file:
                rows = [row for row in csv.DictReader(file) if set(row) == set(COLUMNS) and None not in row.values()]
            done = {row["stage"] for row in rows if row["stage"] in state.finished}
            kept = [row for row in rows if row["stage"] in done or int(row["step"] or 0) <= state.step]
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


# ------------------------------------------------------------------ driving the loop


@contextmanager
def stop_between_steps(state, rank):
    """Within the block the first Ctrl-C or SIGTERM is kept in state.stop, and the second ends the process at once.

    Of several processes the first one decides, and the others ignore signals.
    """

    def ask(number, _):
        state.stop = number
        exit_at_next_signal()
        print("\nstopping after this step; --resume continues; once more stops at once", file=sys.stderr)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, signal.SIG_IGN if rank else ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_training(loop, policy, held_out, state, folder, eval_every):
    """Go through the rows of a method: stops in all processes at once; the first of them watches and saves."""
    (rank, _), device = rank_and_world(), policy.video_std.device
    watch = Watch(policy, held_out, state, folder, eval_every) if rank == 0 else None
    with stop_between_steps(state, rank):
        try:
            for row in loop:
                if watch:
                    watch.look(row)
                if stop := int(broadcast_from_rank0(state.stop, device)):
                    if watch and state.parameters:  # not while features are cached: of that nothing is kept
                        save(folder, policy, state)
                    raise SystemExit(128 + stop)
        finally:
            if watch and watch.bar:
                watch.bar.close()


class Watch:
    """The first process: a progress bar per stage, the log, measures on the held-out windows, saves."""

    def __init__(self, policy, held_out, state, folder, eval_every):
        self.policy, self.held_out, self.state, self.folder = policy, held_out, state, folder
        self.eval_every = eval_every
        self.log, self.bar, self.stage = Log(folder / "log.csv", state), None, None
        self.measured = self.saved = time.monotonic()

    def look(self, row):
        """One row of the loop: show it, log it, and now and then measure and save."""
        finished = row.get("finished", False)
        if row["stage"] != self.stage:
            if self.bar:
                self.bar.close()
            self.stage, self.bar = row["stage"], tqdm(total=row.get("steps"), desc=row["stage"], unit="step")
        shown = " ".join(f"{k} {row[k]:.4f}" for k in ("video", "action") if k in row)
        self.bar.set_postfix_str(shown, refresh=False)
        self.bar.update(row["step"] - self.bar.n)
        if row["stage"] == "features":
            return
        if finished or time.monotonic() - self.measured > self.eval_every:
            with ema_scope(self.state):
                numbers, pictures = held_out_measures(self.policy, self.held_out)
            row = row | numbers
            save_strip(self.folder / "samples" / f"{row['stage']}_{row['step']:06d}.png", *pictures)
            line = (
                "video PSNR {video_psnr:.1f} dB, with one step {video_psnr_one_step:.1f} dB, "
                "copying the current frame {copy_psnr:.1f} dB; action error {action_error:.3f}"
            )
            tqdm.write(f"{row['stage']}, step {row['step']}: {line.format(**numbers)}")
            self.measured = time.monotonic()
        self.log.write(row)
        if finished or time.monotonic() - self.saved > SAVE_EVERY:
            save(self.folder, self.policy, self.state)
            self.saved = time.monotonic()
