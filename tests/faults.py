"""./run faults: damaged and crafted files, a full disk, two of a kind, signals. Prints how many trials passed.

A trial makes one mistake and runs one command. The answer must be one line "error: ..." with what is mentioned beside
the trial, exit status 2 and no traceback; and what was there before must be there after. Signals have other statuses.
"""

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import torch
from common import ROOT, write_demos
from tqdm import tqdm

TRAIN = ["--cameras", "front", "--image-size", "16", "--precision", "fp32", "--eval-every", "1e9"]
STEPS = ["--steps", "40", "--head-steps", "40"]
SAVE_OFTEN = ["-c", "import sys, train; train.SAVE_EVERY = 0.01; train.command(lambda: train.main(sys.argv[1:]))"]


def start(*words):
    """One of the project's commands as a process of its own, which heeds signals as in a terminal."""
    heed = "import signal, sys, runpy; signal.signal(signal.SIGINT, signal.default_int_handler); "
    words = [str(w) for w in words]
    if words[0].endswith(".py"):
        heed += "sys.argv[:] = sys.argv[1:]; sys.path.insert(0, '.'); runpy.run_path(sys.argv[0], run_name='__main__')"
        words = ["-c", heed, *words]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *words], cwd=ROOT, env=env, **pipes)


def refused(words, *mentions):
    """The command answers with one line that has the mentions in it, and exit status 2."""
    process = start(*words)
    err = process.communicate(timeout=240)[1]
    told = [line for line in err.replace("\r", "\n").splitlines() if "error:" in line]
    assert process.returncode == 2, f"exit status {process.returncode}: {err[-300:]}"
    assert "Traceback" not in err and len(told) == 1 and err.endswith(told[0] + "\n"), err[-300:]
    assert all(mention in told[0] for mention in mentions), told[0]


def wait_for(process, ready, seconds=180):
    """Until ready() holds, which must be before the process ends."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.communicate()[1][-300:]
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


class Bench:
    """What trials start from: demonstrations, a finished run and one that was cut short in its first stage."""

    def __init__(self, folder):
        self.folder, self.numbers = folder, itertools.count()  # several trials at once ask for one
        self.demos = write_demos(folder / "CloseDrawer.hdf5", lengths=[12] * 4, masks=True)
        self.whole, self.cut = folder / "whole", folder / "cut"
        few = ["--steps", "2", "--head-steps", "2"]
        assert start("train.py", "--data", self.demos, "--run", self.whole, *TRAIN, *few).wait() == 0
        begin = start(*SAVE_OFTEN, "--data", self.demos, "--run", self.cut, *TRAIN, "--steps", "4000")
        wait_for(begin, (self.cut / "policy.pt").exists)
        begin.kill()
        begin.wait()

    def new(self, name=""):
        """A path that nothing has yet."""
        return self.folder / f"{next(self.numbers)}{name}"

    def copy(self, source):
        path = self.new(source.suffix)
        shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)
        return path

    # ------------------------------------------------------------ kinds of trials

    def resume(self, change, mention="start a new run"):
        """A resume.pt that `change` has changed, a dict in place."""
        run = self.copy(self.cut)
        saved = torch.load(run / "resume.pt", weights_only=True)
        change(saved)
        torch.save(saved, run / "resume.pt")
        before = (run / "policy.pt").read_bytes()
        refused(["train.py", "--run", run, "--resume"], "resume.pt", mention)
        assert (run / "policy.pt").read_bytes() == before

    def flags(self, change):
        """An args.json that `change` has changed."""
        run = self.copy(self.cut)
        saved = json.loads((run / "args.json").read_text())
        change(saved)
        (run / "args.json").write_text(json.dumps(saved))
        refused(["train.py", "--run", run, "--resume"], "args.json", "damaged")

    def policy(self, change, mention=""):
        """A policy.pt that `change` has changed: a dict in place, or bytes to bytes."""
        run = self.copy(self.whole)
        path = run / "policy.pt"
        if mention == "bytes":
            path.write_bytes(change(path.read_bytes()))
        else:
            saved = torch.load(path, weights_only=True)
            change(saved)
            torch.save(saved, path)
        self.train("--generator", run, mentions=("policy.pt",))

    def data(self, change, *mentions, words=()):
        """A demonstration file that `change` has changed."""
        path = self.copy(self.demos)
        with h5py.File(path, "a") as file:
            change(file)
        refused(["train.py", "--data", path, "--run", self.new(), *TRAIN, *STEPS, *words], *mentions)

    def replay(self, change, *mentions):
        """The same, for the open-loop replay, which reads actions only."""
        folder = self.new()
        folder.mkdir()
        shutil.copy(self.demos, folder / "CloseDrawer.hdf5")
        with h5py.File(folder / "CloseDrawer.hdf5", "a") as file:
            change(file)
        refused(["-m", "sim.tasks", "--blind", folder, "--tasks", "CloseDrawer", "--episodes", "1"], *mentions)

    def train(self, *words, mentions=()):
        """Flags of a new run."""
        words = ["train.py", "--data", self.demos, "--run", self.new(), *TRAIN, *STEPS, *words]
        refused(words, *mentions)


def put(group, name, **options):
    """Replace a dataset of an open HDF5 file."""
    if name in group:
        del group[name]
    group.create_dataset(name, **options)


def flip(contents):
    """A byte in the middle of a file of weights, turned around."""
    middle = len(contents) // 2
    return contents[:middle] + bytes([contents[middle] ^ 255]) + contents[middle + 1 :]


def bomb(_):
    """A zip file of few bytes that unfolds to two billion."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("policy/data.pkl", "w", force_zip64=True) as entry:
            for _ in range(2000):
                entry.write(bytes(1_000_000))
    return packed.getvalue()


class Code:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def code_in_a_policy(b):
    """A policy whose unpickling would run code is refused, and the code is not run."""
    mark = b.new()
    b.policy(lambda saved: saved.update(vocab=Code(mark)))
    assert not mark.exists()


def first(states):
    """The optimizer state of some parameter."""
    return next(state for state in states.values() if state)


# ------------------------------------------------------------------ processes


def two_trainers(b):
    """The second process in a run folder is refused, new or resumed, and the first goes on."""
    run = b.new()
    words = ["--data", b.demos, "--run", run, *TRAIN, "--steps", "4000"]
    one = start("train.py", *words)
    wait_for(one, (run / "log.csv").exists)
    refused(["train.py", *words], "another process")
    refused(["train.py", "--run", run, "--resume"], "another process")
    assert one.poll() is None
    one.kill()
    one.wait()


def signalled(number, status):
    """The first signal saves and ends a run with `status`, and --resume goes on from there."""

    def trial(b):
        run = b.new()
        process = start("train.py", "--data", b.demos, "--run", run, *TRAIN, *STEPS)
        wait_for(process, lambda: (run / "log.csv").exists() and len((run / "log.csv").read_text().splitlines()) > 4)
        process.send_signal(number)
        err = process.communicate(timeout=60)[1]
        assert process.returncode == status and "Traceback" not in err, err[-300:]
        assert torch.load(run / "resume.pt", weights_only=True)["step"] > 2
        assert start("train.py", "--run", run, "--resume").wait() == 0

    return trial


def twice(b):
    """The second signal ends a process at once."""
    run = b.new()
    process = start("train.py", "--data", b.demos, "--run", run, *TRAIN, "--steps", "4000")
    wait_for(process, (run / "log.csv").exists)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == 143 and "Traceback" not in err, err[-300:]


def recorder_stopped(b):
    """SIGTERM ends the recorder, and nothing half written is left."""
    out = b.new()
    process = start("-m", "sim.demos", "--tasks", "CloseDrawer", "--demos", "50", "--workers", "1", "--out", out)
    wait_for(process, lambda: any((out / "CloseDrawer.parts").glob("[0-9]*.hdf5")))
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and "Traceback" not in err, err[-300:]
    assert not list(out.glob("*.hdf5"))


def orphans(b):
    """Commands that ablate.py started end when it is killed."""
    mark = str(b.new())
    code = "import os, subprocess, sys; from util.cli import PARENT; subprocess.run([sys.executable, *sys.argv[1:]],"
    code += " env=os.environ | {PARENT: str(os.getpid())})"
    parent = start("-c", code, "train.py", "--data", b.demos, "--run", mark, *TRAIN, "--steps", "4000")
    wait_for(parent, (Path(mark) / "log.csv").exists)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while subprocess.run(["pgrep", "-f", f"run {mark} "], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "the child goes on"
        time.sleep(0.2)


def full_disk(b):
    """A checkpoint that finds no room is one line, and the last good one stays."""
    run = b.copy(b.cut)
    before = (run / "resume.pt").read_bytes()
    (run / "part.resume.pt").symlink_to("/dev/full")
    again = start(*SAVE_OFTEN, "--run", run, "--resume")
    err = again.communicate(timeout=120)[1]
    assert again.returncode == 2 and "disk is full" in err and "MB" in err and "Traceback" not in err, err[-300:]
    assert (run / "resume.pt").read_bytes() == before and not os.path.lexists(run / "part.resume.pt")


def full_disk_in_recording(b):
    """The same while demonstrations are recorded."""
    out = b.new()
    (out / "CloseDrawer.parts").mkdir(parents=True)
    for seed in range(8):
        (out / "CloseDrawer.parts" / f"part.{seed}.hdf5").symlink_to("/dev/full")
    words = ["-m", "sim.demos", "--tasks", "CloseDrawer", "--demos", "1", "--workers", "1", "--out", out]
    refused(words, "disk is full")


def data_changed(b):
    """A run is not resumed on other data."""
    folder = b.new()
    folder.mkdir()
    data, run = shutil.copy(b.demos, folder / "CloseDrawer.hdf5"), b.new()
    begin = start(*SAVE_OFTEN, "--data", data, "--run", run, *TRAIN, "--steps", "4000")
    wait_for(begin, (run / "policy.pt").exists)
    begin.kill()
    begin.wait()
    with h5py.File(data, "a") as file:
        file["data/demo_0/actions"][3] = 0.5
    refused(["train.py", "--run", run, "--resume"], "--data", "started with")


def evaluated_nowhere(b):
    """A result that cannot be written is said at once."""
    run = b.copy(b.whole)
    (run / "eval_none.json").mkdir()
    refused(["evaluate.py", "--run", run, "--tasks", "CloseDrawer", "--episodes", "1"], "eval_none.json")


def two_files_too_large(b):
    """Files that fit one by one and not together are counted before any is read."""
    folder = b.new()
    folder.mkdir()
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("A", "B"):
        path = write_demos(folder / f"{name}.hdf5", lengths=[12] * 4)
        with h5py.File(path, "a") as file:
            shape = (int(0.5 * pages / 768), 16, 16, 3)
            put(file, "data/demo_0/obs/front_image", shape=shape, dtype="u1", chunks=(1024, 16, 16, 3), compression=1)
            frames = file["data/demo_0/obs/front_image"]
            noise = np.random.default_rng(0).integers(256, size=(1024, 16, 16, 3), dtype=np.uint8)
            frames[:1024] = noise
    refused(["train.py", "--data", folder, "--run", b.new(), *TRAIN, *STEPS], "GB")


TRIALS = {
    # a crafted resume.pt
    "state of another shape": lambda b: b.resume(lambda s: first(s["optimizers"][1]).update(exp_avg=torch.zeros(3))),
    "momentum of another shape": lambda b: b.resume(lambda s: first(s["optimizers"][0]).update(momentum=torch.ones(2))),
    "state that is missing": lambda b: b.resume(lambda s: first(s["optimizers"][1]).pop("exp_avg_sq")),
    "state of no parameter": lambda b: b.resume(lambda s: s["optimizers"][0].update({999: {}, 5000: {"momentum": 1}})),
    "no optimizers": lambda b: b.resume(lambda s: s.update(optimizers=[])),
    "optimizers without average": lambda b: b.resume(lambda s: s.update(ema=None)),
    "average without optimizers": lambda b: b.resume(lambda s: s.update(optimizers=None)),
    "a short average": lambda b: b.resume(lambda s: s["ema"].pop()),
    "an average of another shape": lambda b: b.resume(lambda s: s["ema"].__setitem__(0, torch.zeros(7))),
    "an average of NaN": lambda b: b.resume(lambda s: s["ema"][0].fill_(float("nan"))),
    "a negative step": lambda b: b.resume(lambda s: s.update(step=-4)),
    "half a step": lambda b: b.resume(lambda s: s.update(step=2.5)),
    "a step beyond the last": lambda b: b.resume(lambda s: s.update(step=100_000)),
    "a stage that does not exist": lambda b: b.resume(lambda s: s.update(stage=5)),
    "no weights": lambda b: b.resume(lambda s: s.pop("weights")),
    "weights of another network": lambda b: b.resume(lambda s: s["weights"].popitem()),
    "time that is not a number": lambda b: b.resume(lambda s: s.update(seconds=float("nan"))),
    # args.json
    "negative steps": lambda b: b.flags(lambda s: s.update(steps=-3)),
    "half steps": lambda b: b.flags(lambda s: s.update(steps=2.5)),
    "a seed that is a dict": lambda b: b.flags(lambda s: s.update(seed={})),
    "an unknown method": lambda b: b.flags(lambda s: s.update(method="magic")),
    "no tasks": lambda b: b.flags(lambda s: s.update(trained_tasks=None)),
    "flags that are a list": lambda b: refused_list(b),
    # a crafted policy.pt
    "a flipped byte": lambda b: b.policy(flip, "bytes"),
    "a cut file": lambda b: b.policy(lambda c: c[: len(c) // 3], "bytes"),
    "an empty file": lambda b: b.policy(lambda c: b"", "bytes"),
    "text": lambda b: b.policy(lambda c: b"version https://git-lfs.github.com/spec/v1\n", "bytes"),
    "a pickle with code": code_in_a_policy,
    "a zip bomb": lambda b: b.policy(bomb, "bytes"),
    "a billion parameters": lambda b: b.policy(lambda s: s["config"].update(widths=(4096, 4096, 4096), blocks=16)),
    "a million blocks": lambda b: b.policy(lambda s: s["config"].update(blocks=1_000_000)),
    "nested cameras": lambda b: b.policy(lambda s: s["config"].update(cameras=(("front",),))),
    "a size with a point": lambda b: b.policy(lambda s: s["config"].update(image_size=16.0)),
    "no denoising steps": lambda b: b.policy(lambda s: s["config"].update(action_steps=0)),
    "denoising for days": lambda b: b.policy(lambda s: s["config"].update(action_steps=10_000_000)),
    "statistics too short": lambda b: b.policy(lambda s: s["weights"].update(action_low=torch.zeros(3))),
    "a weight of NaN": lambda b: b.policy(lambda s: s["weights"]["action_high"].fill_(float("nan"))),
    "whole numbers for weights": lambda b: b.policy(lambda s: s["weights"].update(video_std=torch.tensor([1]))),
    "words that are none": lambda b: b.policy(lambda s: s.update(vocab=7)),
    "an unknown field": lambda b: b.policy(lambda s: s["config"].update(depth=3)),
    "another format": lambda b: b.policy(lambda s: s.update(format="video-policy-1")),
    # demonstrations
    "an image bomb": lambda b: b.data(
        lambda f: put(f, "data/demo_0/obs/front_image", data=np.zeros((200_000, 16, 16, 3), np.uint8), compression=9),
        "stored"),
    "a mask of long names": lambda b: b.data(
        lambda f: put(f, "mask/valid", shape=(1000,), dtype="S1000000", chunks=(1,)), "mask/valid"),
    "a mask of other demos": lambda b: b.data(
        lambda f: put(f, "mask/valid", data=np.array([b"demo_77"])), "mask/valid", "demo_77"),
    "complex actions": lambda b: b.data(
        lambda f: put(f, "data/demo_0/actions", data=np.ones((12, 7), complex)), "actions"),
    "an action of NaN": lambda b: b.data(
        lambda f: f["data/demo_0/actions"].__setitem__((2, 3), np.nan), "actions", "step 2"),
    "a prompt without words": lambda b: b.data(
        lambda f: f["data/demo_0"].attrs.update(ep_meta=json.dumps({"lang": "... !"})), "no words"),
    "demos that only fit one by one": two_files_too_large,
    "replay: NaN": lambda b: b.replay(lambda f: f["data/demo_1/actions"].__setitem__((2, 3), np.nan), "actions"),
    "replay: another rank": lambda b: b.replay(
        lambda f: put(f, "data/demo_0/actions", data=np.zeros((2, 3, 4))), "actions"),
    "replay: terabytes": lambda b: b.replay(
        lambda f: put(f, "data/demo_0/actions", shape=(2**36, 7), dtype="f8", chunks=(1024, 7)), "actions"),
    "data that changed": data_changed,
    # flags
    "an empty prompt": lambda b: b.train("--prompt", "", mentions=("--prompt",)),
    "a blank prompt": lambda b: b.train("--prompt", "  ", mentions=("--prompt",)),
    "a camera twice": lambda b: b.train("--cameras", "front", "front", mentions=("cameras",)),
    "a task outside the folder": lambda b: b.train("--data", b.folder, "--tasks", "../x", mentions=("../x",)),
    "a run under a file": lambda b: b.train("--run", b.demos / "run", mentions=("move it",)),
    "a name too long": lambda b: b.train("--run", b.folder / ("x" * 300), mentions=("shorter",)),
    "a run where nothing can be": lambda b: b.train("--run", "/proc/run", mentions=("/proc/run",)),
    "a result in the way": evaluated_nowhere,
    # processes, signals, disks
    "two trainers": two_trainers,
    "SIGTERM": signalled(signal.SIGTERM, 143),
    "Ctrl-C": signalled(signal.SIGINT, 130),
    "two signals": twice,
    "a recorder is stopped": recorder_stopped,
    "a parent is killed": orphans,
    "a full disk": full_disk,
    "a full disk in recording": full_disk_in_recording,
}  # fmt: skip


def refused_list(b):
    """args.json with something else than flags."""
    run = b.copy(b.cut)
    (run / "args.json").write_text("[1, 2]")
    refused(["train.py", "--run", run, "--resume"], "args.json", "damaged")


def attempt(trial, bench):
    """None, or what went wrong."""
    try:
        trial(bench)
    except (AssertionError, subprocess.SubprocessError, OSError) as error:
        return " ".join(str(error).split())[-300:]


def main():
    """Run the trials whose name holds one of the words given, all without any -> exit status."""
    chosen = [name for name in TRIALS if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        bench = Bench(Path(folder))
        answers = pool.map(lambda name: attempt(TRIALS[name], bench), chosen)
        answers = dict(zip(chosen, tqdm(answers, total=len(chosen), desc="faults", unit="trial"), strict=True))
    for name, wrong in answers.items():
        if wrong:
            print(f"{name}: {wrong}")
    print(f"{sum(not wrong for wrong in answers.values())} of {len(answers)} trials passed")
    return int(any(answers.values()))


if __name__ == "__main__":
    sys.exit(main())
