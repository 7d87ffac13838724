"""./run faults: damaged files, a full disk, two processes in one folder, signals. Prints how many trials passed.

A trial makes one mistake and runs one command. The command must answer with one line "error: ..." that holds the words
given beside the trial, exit with status 2, print no traceback and keep what was there. Signals have other statuses.
"""

import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from common import start, write_demos
from tqdm import tqdm

from util.files import claimed

SET = ["cameras=front", "image_size=16", "widths=32,64", "attention=false,true", "precision=fp32", "eval_every=1e9"]


def ends(process, status, *mentions):
    """The process ends with this status and without a traceback; with status 2, in one line with the mentions."""
    try:
        err = process.communicate(timeout=240)[1].replace("\r", "\n")
    finally:
        process.kill()
    assert process.returncode == status and "Traceback" not in err, f"status {process.returncode}: {err[-300:]}"
    errors = [line for line in err.splitlines() if "error:" in line]
    assert len(errors) == (status == 2) and all(mention in errors[0] for mention in mentions), err[-300:]


def refused(words, *mentions):
    ends(start(*words), 2, *mentions)


class Bench:
    """What trials start from: demonstrations, a finished run and one that was stopped in its first stage."""

    def __init__(self, folder):
        self.folder, self.numbers = folder, itertools.count()
        self.demos, self.whole, self.cut = folder / "demos", folder / "whole", folder / "cut"
        self.demos.mkdir()
        write_demos(self.demos / "CloseDrawer.hdf5", lengths=[12] * 4, masks=True)
        ends(start(*self.training(self.whole, "--steps", "2", "--head-steps", "2")), 0)
        ends(self.signalled(self.training(self.cut), self.cut, signal.SIGTERM), 143)

    def new(self):
        """A path that does not exist yet."""
        return self.folder / str(next(self.numbers))

    def training(self, run, *words):
        """A command that trains a small network for long; words may begin with more of --set."""
        fields = [field for field in SET if not any(str(word).startswith(field.split("=")[0]) for word in words)]
        return ["train.py", "--data", self.demos, "--run", run, "--steps", "40000", "--set", *fields, *words]

    def signalled(self, words, run, *numbers):
        """A process that trains in `run`, after it was sent these signals in the middle of its work."""
        log = run / "log.csv"
        size = log.stat().st_size if log.exists() else 0
        process, deadline = start(*words), time.monotonic() + 180
        while not log.exists() or log.stat().st_size < size + 500:
            time.sleep(0.02)
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"no steps: {process.communicate()[1][-300:]}")
        for number in numbers:
            process.send_signal(number)
        return process

    def copy(self, folder, name=None, change=None):
        """A copy of a folder in which `change`, bytes to bytes, has changed one file."""
        copy = Path(shutil.copytree(folder, self.new()))
        if change:
            (copy / name).write_bytes(change((copy / name).read_bytes()))
        return copy

    def train(self, mention, *words):
        """A new run with these flags is refused."""
        refused(self.training(self.new(), *words), mention)

    def generator(self, change):
        """--generator takes a policy.pt that `change` has changed."""
        self.train("policy.pt", "--generator", self.copy(self.whole, "policy.pt", change))

    def resume(self, name, change, *mentions):
        """A run in which `change` has changed one file is resumed."""
        run = self.copy(self.cut, name, change)
        before = (run / "policy.pt").read_bytes()
        refused(["train.py", "--run", run, "--resume"], *mentions or [name])
        assert (run / "policy.pt").read_bytes() == before

    def data(self, mention, change):
        """A demonstration file is trained on after `change` has changed it."""
        folder = self.copy(self.demos)
        with h5py.File(folder / "CloseDrawer.hdf5", "a") as file:
            change(file)
        self.train(mention, "--data", folder)


def cut(contents):
    return contents[: len(contents) // 3]


def flip(contents):
    """A byte in the middle, turned around."""
    middle = len(contents) // 2
    return contents[:middle] + bytes([contents[middle] ^ 255]) + contents[middle + 1 :]


def edit(change, contents):
    """A checkpoint, as bytes, after `change` has changed the dict in it."""
    saved, out = torch.load(io.BytesIO(contents), weights_only=True), io.BytesIO()
    change(saved)
    torch.save(saved, out)
    return out.getvalue()


old_format = partial(edit, lambda saved: saved.update(format="video-policy-1"))
weight_missing = partial(edit, lambda saved: saved["weights"].popitem())
weight_of_nan = partial(edit, lambda saved: saved["weights"]["action_high"].fill_(float("nan")))


def put(name, data, file):
    """Replace a dataset of a demonstration file."""
    del file[name]
    file[name] = data


few_actions = partial(put, "data/demo_0/actions", np.ones((5, 7)))
nan_actions = partial(put, "data/demo_0/actions", np.full((12, 7), np.nan))
TEN_HERTZ = '{"env_kwargs": {"control_freq": 10}}'
unknown_mask = partial(put, "mask/valid", [b"demo_77"])


class Code:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def code_in_a_policy(b):
    """A policy whose unpickling would run code is refused, and the code is not run."""
    mark = b.new()
    b.generator(partial(edit, lambda saved: saved.update(vocab=Code(mark))))
    assert not mark.exists()


def data_changed(b):
    """A run is not resumed on other data."""
    other = b.copy(b.demos)
    write_demos(other / "CloseDrawer.hdf5", lengths=[11] * 4, masks=True)
    b.resume("args.json", lambda c: c.replace(bytes(b.demos), bytes(other)), "--data", "started with")


def result_in_the_way(b):
    """A result that cannot be written is said before the episodes, not after them."""
    run = b.copy(b.whole)
    (run / "eval_none.json").mkdir()
    refused(["evaluate.py", "--run", run, "--tasks", "CloseDrawer", "--episodes", "1"], "eval_none.json")


def two_trainers(b):
    """The second process in a run folder is refused, new or resumed, and the first goes on."""
    run = b.new()
    one = b.signalled(b.training(run), run)
    try:
        refused(b.training(run), "another process")
        refused(["train.py", "--run", run, "--resume"], "another process")
        assert one.poll() is None
    finally:
        one.kill()
        one.wait()


def stopped(number, status):
    """The first signal saves and ends a run with `status`, and --resume goes on from there."""

    def trial(b):
        run = b.new()
        ends(b.signalled(b.training(run, "--steps", "60", "--head-steps", "2"), run, number), status)
        log = (run / "log.csv").read_text()
        ends(start("train.py", "--run", run, "--resume"), 0)
        assert (run / "log.csv").read_text().startswith(log)

    return trial


def full_disk(b):
    """A checkpoint that finds no room is one line, and the last good one stays."""
    run = b.copy(b.cut)
    before = (run / "resume.pt").read_bytes()
    (run / "part.resume.pt").symlink_to("/dev/full")
    ends(b.signalled(["train.py", "--run", run, "--resume"], run, signal.SIGTERM), 2, "disk is full", "MB")
    assert (run / "resume.pt").read_bytes() == before and not os.path.lexists(run / "part.resume.pt")


def full_disk_in_recording(b):
    """The same while demonstrations are recorded."""
    (parts := b.new() / "CloseDrawer.parts").mkdir(parents=True)
    for seed in range(8):
        (parts / f"part.{seed}.hdf5").symlink_to("/dev/full")
    flags = ["--tasks", "CloseDrawer", "--demos", "1", "--workers", "1", "--out", parts.parent]
    refused(["-m", "sim.demos", *flags], "disk is full")


def two_evaluations(b):
    """The second evaluation into the same file is refused at its start."""
    run = b.copy(b.whole)
    with claimed(run / "eval_none.json"):
        refused(["evaluate.py", "--run", run, "--tasks", "CloseDrawer"], "eval_none.json", "another process")


SIMULATOR = "import os, runpy; os.environ['{}'] = '{}'; runpy.run_module('sim.env', run_name='__main__')"
TRIALS = {
    # a policy.pt
    "a flipped byte": lambda b: b.generator(flip),
    "a cut file": lambda b: b.generator(cut),
    "a file of text": lambda b: b.generator(lambda _: b"version https://git-lfs.github.com/spec/v1\n"),
    "a pickle with code": code_in_a_policy,
    "a weight of NaN": lambda b: b.generator(weight_of_nan),
    "weights that are missing": lambda b: b.generator(weight_missing),
    "another format": lambda b: b.generator(old_format),
    "another image size": lambda b: b.train("image_size", "image_size=32", "--generator", b.whole),
    "no policy": lambda b: b.train("policy.pt", "--generator", b.folder),
    # a run that is resumed
    "a cut resume.pt": lambda b: b.resume("resume.pt", cut),
    "a flipped byte in resume.pt": lambda b: b.resume("resume.pt", flip),
    "resume.pt of another network": lambda b: b.resume("resume.pt", weight_missing),
    "a cut args.json": lambda b: b.resume("args.json", cut),
    "args.json without flags": lambda b: b.resume("args.json", lambda _: b"[1, 2]"),
    "args.json of an older version": lambda b: b.resume("args.json", lambda c: c.replace(b'"set"', b'"sets"')),
    "data that changed": data_changed,
    "a flag that changed": lambda b: refused(["train.py", "--run", b.cut, "--resume", "--seed", "7"], "--seed"),
    "nothing to resume": lambda b: refused(["train.py", "--run", b.new(), "--resume"], "resume"),
    "a run that is there": lambda b: refused(b.training(b.whole), "whole", "--resume"),
    # demonstrations
    "a cut file of demos": lambda b: b.train("Drawer.hdf5", "--data", b.copy(b.demos, "CloseDrawer.hdf5", cut)),
    "no such task": lambda b: b.train("Lift.hdf5", "--tasks", "Lift"),
    "a missing camera": lambda b: b.data("front", lambda f: f["data/demo_1/obs"].move("front_image", "side_image")),
    "fewer actions than frames": lambda b: b.data("actions", few_actions),
    "actions of NaN": lambda b: b.data("at step 0", nan_actions),
    "no prompt": lambda b: b.data("--set prompt", lambda f: f["data/demo_0"].attrs.pop("ep_meta")),
    "a mask of other demos": lambda b: b.data("demo_77", unknown_mask),
    "too many demos": lambda b: b.train("4 demos", "--demos", "5"),
    "another control rate": lambda b: b.data("control_freq 10", lambda f: f["data"].attrs.update(env_args=TEN_HERTZ)),
    "no play": lambda b: b.train("--play", "--play", b.new()),
    # flags
    "a blank prompt": lambda b: b.train("prompt", "prompt=  "),
    "a camera twice": lambda b: b.train("cameras", "cameras=front,front"),
    "an empty batch": lambda b: b.train("batch_size", "batch_size=0"),
    "an unknown field": lambda b: b.train("batchsize", "batchsize=8"),
    "a run under a file": lambda b: refused(b.training(b.demos / "CloseDrawer.hdf5/run"), "check the name"),
    "a run where nothing can be": lambda b: refused(b.training("/proc/run"), "/proc/run"),
    "a result in the way": result_in_the_way,
    # processes, signals, disks
    "two trainers": two_trainers,
    "SIGTERM": stopped(signal.SIGTERM, 143),
    "Ctrl-C": stopped(signal.SIGINT, 130),
    "a full disk": full_disk,
    "a full disk in recording": full_disk_in_recording,
    "two evaluations": two_evaluations,
    "no such GPU": lambda b: refused(["-c", SIMULATOR.format("MUJOCO_EGL_DEVICE_ID", "99")], "unset it"),
    "no cache": lambda b: refused(["-c", SIMULATOR.format("NUMBA_CACHE_LOCATOR_CLASSES", "ZipCacheLocator")], "NUMBA_"),
}  # fmt: skip


def attempt(name, bench):
    """What went wrong in a trial, or nothing."""
    try:
        TRIALS[name](bench)
    except (AssertionError, subprocess.SubprocessError, OSError) as error:
        return " ".join(f"{name}: {error}".split())[:400]


def main():
    """Run the trials whose name holds one of the words given, all without any -> exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or children of a background process would ignore it
    chosen = [name for name in TRIALS if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        answers = pool.map(attempt, chosen, itertools.repeat(Bench(Path(folder))))
        failures = [answer for answer in tqdm(answers, total=len(chosen), desc="faults", unit="trial") if answer]
    print(*failures, f"{len(chosen) - len(failures)} of {len(chosen)} trials passed", sep="\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
