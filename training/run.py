"""What stands around the training loop: the run folder, resuming, stops, held-out measures, saves."""

import argparse
import csv
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from training.device import broadcast_from_rank0, rank_and_world
from util.cli import exit_at_next_signal
from util.figures import held_out_measures, save_strip
from util.files import InputError, brief, load_tensors, locked, read_json, save_tensors, write_file
from videopolicy import FAR

SAVE_EVERY = 60.0  # seconds of work that a kill loses at most
COLUMNS = ("stage", "step", "seconds", "pose", "video", "action", "lr", "grad_norm", "position_mm", "rotation_degrees")
COLUMNS += ("video_psnr", "video_psnr_one_step", "copy_psnr", "action_error")  # see held_out_measures
PATHS = ("data", "videos", "play", "generator", "init", "estimator")
FREE_ON_RESUME = {"resume", "run", "device", *PATHS}  # where, not what is learned
# What a run that was killed before its first save leaves behind: anything else is never written over.
LEFTOVERS = {"args.json", "log.csv", "samples", "pose_estimator.pt", "labels.npz"}
LEFTOVERS |= {f"part.{name}" for name in LEFTOVERS} | {"part.resume.pt"}


@dataclass
class TrainState:
    """Where a run stands: all that --resume needs beside the weights. The training loop keeps it up to date."""

    finished: list = field(default_factory=list)  # names of the stages that are done
    step: int = 0  # of the present stage
    seconds: float = 0.0  # of the present stage
    optimizers: list | None = None  # as resume.pt has them, until the stage begins
    ema: list | None = None  # averaged weights of what this stage trains
    parameters: list = field(default_factory=list)  # the weights that they are averages of
    weights: dict = field(default_factory=dict)  # {file: weights} of resume.pt, until their network is made
    stop: int = 0  # the signal that asked the run to save and end, if there was one

    @property
    def number(self):
        """How many stages of the policy are done: what is drawn at random depends on it."""
        return len({*self.finished} - {"pose_estimator"})

    def begin(self, optimizers, parameters):
        """Begin or continue a stage that trains `parameters`."""
        if self.ema is not None:
            if len(optimizers) != len(self.optimizers) or [*map(len, parameters)] != [*map(len, self.ema)]:
                raise InputError("resume.pt: is of another stage or method than args.json says; start a new run")
            for optimizer, states in zip(optimizers, self.optimizers, strict=True):
                optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
        self.ema = self.ema or [p.detach().clone() for p in parameters]
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


@contextmanager
def run_folder(folder, resume, rank):
    """Make the run folder, or find the one to resume, and keep other runs out of it while the block lasts."""
    if rank > 0:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "another process trains here; wait for it or choose another --run"):
        if not resume:
            if {f.name for f in folder.iterdir()} - LEFTOVERS:
                raise InputError(f"--run {folder}: is taken; continue it with --resume or choose another name")
            (folder / "samples").mkdir(exist_ok=True)
            (folder / "log.csv").unlink(missing_ok=True)
        yield


def read_args(args, given):
    """The flags in args.json of the run that `args` resumes; those that are `given` must agree. Raises InputError."""
    saved = read_json(path := args.run / "args.json")
    if not isinstance(saved, dict) or not {*vars(args), "data_hash", "precision"} <= set(saved):
        raise InputError(f"{path}: missing or damaged; there is nothing to resume, start a new run")
    for name in given - FREE_ON_RESUME:
        if saved[name] != getattr(args, name):
            was = f"the run in {args.run} was started with {saved[name]}"
            raise InputError(f"--{name.replace('_', '-')}: {was}; leave it out or start a new run")
    flags = {name: Path(saved[name]) if name in PATHS and saved[name] else saved[name] for name in vars(args)}
    return argparse.Namespace(**flags | {name: getattr(args, name) for name in given & FREE_ON_RESUME})


def restore(folder, state, made_of, device):
    """Load resume.pt into the state -> what the run was made of. InputError where it does not fit the flags."""
    saved = read_json(folder / "args.json")
    if saved["data_hash"] != made_of["data_hash"]:
        raise InputError(f"--data: differs from what {folder} was started with; bring that back or start a new run")
    fields = {"file": str, "weights": dict, "finished": list, "step": int, "seconds": float}
    found = load_tensors(folder / "resume.pt", fields, device)
    state.weights = {found.pop("file"): found.pop("weights")}
    for name, value in found.items():
        setattr(state, name, value)
    return {name: saved[name] for name in made_of}


def take_weights(network, state):
    """Give a network the weights that resume.pt has of it, if it was in training then."""
    if network.FILE in state.weights:
        try:
            network.load_state_dict(state.weights.pop(network.FILE))
        except RuntimeError as error:
            raise InputError(f"resume.pt: does not fit args.json ({brief(error)}); start a new run") from None


def save(folder, network, state):
    """The averaged weights, as the FILE of the network, and resume.pt, all that a killed run needs to go on."""
    optimizers = state.optimizers and [optimizer.state_dict()["state"] for optimizer in state.optimizers]
    resume = {"file": network.FILE, "weights": network.state_dict(), "optimizers": optimizers, "ema": state.ema}
    resume |= {"finished": state.finished, "step": state.step, "seconds": state.seconds}
    save_tensors(resume, folder / "resume.pt")
    with ema_scope(state):
        network.save(folder / network.FILE)


def open_log(path, state):
    """log.csv, a row per step -> a csv.DictWriter that appends to it, without rows that the last save does not have."""
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]] if path.exists() else []
    whole = [row for row in rows if len(row) == len(COLUMNS)]
    kept = [row for row in whole if row[0] in state.finished or int(row[1]) <= state.step]
    write_file(path, "".join(",".join(row) + "\r\n" for row in (COLUMNS, *kept)))
    return csv.DictWriter(open(path, "a", newline="", buffering=1), COLUMNS, extrasaction="ignore")  # line by line


@contextmanager
def stop_between_steps(state, rank):
    """Within the block the first Ctrl-C or SIGTERM is kept in state.stop of the first process; a second ends it."""

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


def run_training(loop, network, measure, state, folder, eval_every):
    """Go through the rows of a method; the first process watches, measures by measure(stem), and saves `network`."""
    (rank, _), device = rank_and_world(), next(network.parameters()).device
    watch = Watch(network, measure, state, folder, eval_every) if rank == 0 else None
    with stop_between_steps(state, rank):
        try:
            for row in loop:
                if watch:
                    watch.look(row)
                if stop := int(broadcast_from_rank0(state.stop, device)):
                    if watch and (state.parameters or state.ema is None):  # a half-filled feature cache is not kept
                        save(folder, network, state)
                    raise SystemExit(128 + stop)
        finally:
            if watch:
                watch.bar.close()


class Watch:
    """The first process: a progress bar per stage, the log, measures on the held-out windows, saves."""

    def __init__(self, network, measure, state, folder, eval_every):
        self.network, self.measure, self.state, self.folder = network, measure, state, folder
        self.log, self.bar, self.stage = open_log(folder / "log.csv", state), tqdm(disable=True), None
        self.eval_every, self.measured, self.saved = eval_every, time.monotonic(), time.monotonic()

    def look(self, row):
        """One row of the loop: show it, log it, and now and then measure and save."""
        finished = row.get("finished", False)
        if row["stage"] != self.stage:
            self.bar.close()
            self.stage, self.bar = row["stage"], tqdm(total=row.get("steps"), desc=row["stage"], unit="step")
        shown = " ".join(f"{k} {row[k]:.4f}" for k in ("pose", "video", "action") if k in row)
        self.bar.set_postfix_str(shown, refresh=False)
        self.bar.update(row["step"] - self.bar.n)
        if row["stage"] == "features":
            return
        if finished or time.monotonic() - self.measured > self.eval_every:
            with ema_scope(self.state):
                numbers = self.measure(self.folder / "samples" / f"{row['stage']}_{row['step']:06d}")
            shown = ", ".join(f"{name} {number:.4g}" for name, number in numbers.items())
            tqdm.write(f"{row['stage']}, step {row['step']}, held out: {shown}")
            row, self.measured = row | numbers, time.monotonic()
        self.log.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        if finished or time.monotonic() - self.saved > SAVE_EVERY:
            save(self.folder, self.network, self.state)
            self.saved = time.monotonic()


def describe(policy, windows, held_out, precision):
    """Print what is trained on what."""
    generator, head = (sum(p.numel() for p in m.parameters()) / 1e6 for m in (policy.generator, policy.head))
    where = f"{precision} on {policy.video_std.device}, {torch.get_num_threads()} threads"
    print(f"{len(windows)} windows of {len(windows.clips)} demos, {len(held_out)} held out; {where}")
    print(f"generator {generator:.1f} M parameters, action head {head:.1f} M")
    low, high = (bound.cpu().numpy() for bound in (policy.action_low, policy.action_high))
    reach, clips = FAR * (high - low) / 2 + 1e-4, windows.with_actions().clips
    wild = [(np.abs(clip.actions - (low + high) / 2) > reach).any(axis=1).sum() for clip in clips]
    if any(wild):
        where = " ".join(clips[np.argmax(wild)].source)
        print(f"actions far outside of the range of the others, cut off there: {sum(wild)}, most of them in {where}")


def policy_measure(policy, held_out, stem):
    """What run_training measures of a policy: the quality of its videos and its actions on held-out windows."""
    numbers, pictures = held_out_measures(policy, held_out)
    save_strip(stem.with_suffix(".png"), *pictures)
    return numbers
