"""Demonstration files: recording them with the scripted experts, in robomimic's HDF5 layout.

    data.attrs            env_args (JSON), total, recipe (JSON: what was asked for)
    data/demo_0           attrs: num_samples, model_file, ep_meta (JSON: lang, task, seed, shift)
        actions           (N, 7) float64   what the expert would do there: what to learn
        actions_executed  (N, 7) float64   what was done, the expert's action and noise: what replays
        states            (N, S) float64   simulator state before each action: the demo can be replayed
        rewards, dones    (N,)
        obs/front_image   (N, H, W, 3) uint8, upright, one per camera
        obs/robot0_*      (N, ...) float64 eef_pos, eef_quat, gripper_qpos, joint_pos
    mask/train, mask/valid                 names of demos; every tenth is held out

Recording can be stopped at any moment; the same command goes on with it. Every attempt is kept in the folder
OUT/<Task>.parts as a file of its own, named by its scene seed and empty where the expert failed; once there are enough,
they are copied into OUT/<Task>.hdf5. A part depends on its seed and the flags only, so that file holds the same however
often recording was stopped. After a change to a task or to the experts delete the folder, or old and new demos mix.

Reading them for training is data/robomimic.py. Two ways to start:

    python -m sim.demos --tasks CloseDrawer OpenDrawer --demos 50 --workers 2 --out demos
    python -m sim.demos --tasks CloseDrawer --demos 5 --out /tmp/demos           # a few seconds
"""

import fcntl
import io
import json
import os
import shutil
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from cli import InputError, Parser, check_size, choose_tasks, command, whole, worker_processes
from sim import SimError
from sim.task import SHIFTS
from sim.tasks import TASKS

EVALUATION_SEEDS = 1_000_000  # evaluation starts here; demos must stay below, so that no scene is in both
SEED_SPACING = 50_000  # scenes of --seed 1 start here, of --seed 2 at twice that
# The expert is disturbed while it acts, and its own action is what is stored: demonstrations then show how to get back
# from where a learner's errors lead, and the labels are clean (DART, Laskey et al. 2017, arXiv 1703.09327).
NOISE = 0.1  # std of the disturbance of the six arm actions; 0.25 breaks contact-rich tasks
LINGER = 8  # steps recorded after success, so that "done, hold still" is seen
ATTEMPTS = 4  # give up after this many attempts per demo asked for


def record(env, seed, shift="none", noise=NOISE):
    """One attempt by the expert at the episode of `seed` -> (attributes, arrays) of a demo, see the layout above, or
    None where it fails.
    """
    from sim.experts import expert

    env.reset(seed, shift)
    rng = np.random.default_rng([seed, 1])  # 1: the stream of action noise, apart from the scene's
    model_xml = env.model_xml()
    frames, states, actions, executed, proprio = [], [], [], [], []
    linger = 0
    for intended in expert(env):
        frames.append(env.observe())
        states.append(env.state())
        proprio.append(env.proprio())
        disturbance = np.append(noise * rng.standard_normal(6), 0.0)
        actions.append(np.clip(intended, -1, 1))
        executed.append(np.clip(intended + disturbance, -1, 1))
        env.step(executed[-1])
        linger += env.success()
        if linger > LINGER or len(actions) >= env.task.horizon:
            break
    if not env.success():
        return None
    last = np.arange(len(actions)) == len(actions) - 1
    arrays = {"actions": actions, "actions_executed": executed, "states": states}
    arrays |= {"rewards": last.astype(np.float64), "dones": last.astype(np.int64)}
    arrays |= {f"obs/{camera}_image": [f[v].transpose(1, 2, 0) for f in frames] for v, camera in enumerate(env.cameras)}
    arrays |= {f"obs/{key}": [p[key] for p in proprio] for key in proprio[0]}
    meta = {"lang": env.prompt, "task": env.task.name, "seed": seed, "shift": shift}
    attributes = {"num_samples": len(actions), "model_file": model_xml, "ep_meta": json.dumps(meta)}
    return attributes, {name: np.stack(rows) for name, rows in arrays.items()}


# ---------------------------------------------------------------------- writing


def write_demo(group, attributes, arrays):
    """One demo into an empty group of an open file; images are compressed."""
    group.attrs.update(attributes)
    for name, values in arrays.items():
        if name.endswith("_image"):
            chunks = (min(16, len(values)), *values.shape[1:])
            group.create_dataset(name, data=values, chunks=chunks, compression="gzip", compression_opts=1)
        else:
            group[name] = values


def assemble(path, parts, recipe):
    """The finished file from the parts of its demos, in their order."""
    whole_file = io.BytesIO()  # compressed, a fraction of the memory that training on it takes
    with h5py.File(whole_file, "w") as file:
        data = file.create_group("data")
        data.attrs["recipe"] = json.dumps(recipe)
        for i, part in enumerate(parts):
            try:
                with h5py.File(part) as source:
                    data.attrs["env_args"] = source.attrs["env_args"]
                    source.copy("demo", data, f"demo_{i}")
            except (OSError, KeyError, RuntimeError):
                raise InputError(f"{part}: damaged; delete it, and the same command records it anew") from None
        data.attrs["total"] = sum(int(data[name].attrs["num_samples"]) for name in data)
        names = [f"demo_{i}" for i in range(len(parts))]
        valid = names[9::10]  # every tenth demo is held out of training
        file["mask/train"] = np.array([name for name in names if name not in valid], dtype="S")
        file["mask/valid"] = np.array(valid, dtype="S")
    write_whole(path, whole_file)


def write_whole(path, contents):
    """A BytesIO to the disk, beside its target and then moved: whatever happens, `path` is whole or not there.

    HDF5 writing to the disk itself would leave a damaged file when killed, and no plain error when the disk is full.
    """
    with open(f"{path}.part", "wb") as file:
        file.write(contents.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.part", path)


# ------------------------------------------------------------------- collecting

_env = None  # one environment per worker process, built once


def _start_worker(task, cameras, size):
    global _env
    from sim.env import TaskEnv

    _env = TaskEnv(task, cameras=cameras, size=size)


def _attempt(job):
    """Store one attempt among the parts, unless it is there already -> its file, or None where the expert failed."""
    folder, seed, shift = job
    part = folder / f"{seed}.hdf5"
    if not part.exists():
        demo = record(_env, seed, shift)
        contents = io.BytesIO()
        if demo is not None:
            with h5py.File(contents, "w") as file:
                file.attrs["env_args"] = json.dumps(_env.env_args())
                write_demo(file.create_group("demo"), *demo)
        write_whole(part, contents)
    return part if part.stat().st_size else None


def open_parts(folder, recipe):
    """Make or find the folder of parts and keep other processes out -> an open file, to be closed when done.

    InputError where another process is recording there, or where the parts are of another recipe.
    """
    folder.mkdir(exist_ok=True)
    lock = open(folder / "recipe.json", "a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with this process, whichever way that ends
    except BlockingIOError:
        raise InputError(f"{folder}: another process is recording here; wait for it or choose another --out") from None
    lock.seek(0)
    if found := lock.read():
        compare(folder, found, recipe)
        print(f"{folder}: going on after {len(list(folder.glob('*.hdf5')))} attempts", flush=True)
    else:
        lock.write(json.dumps(recipe))
        lock.flush()
    return lock


def collect(path, recipe, workers=1):
    """Record a task's expert into `path` until there are as many demos as asked for -> number of failed attempts.

    recipe: dict of task, demos, cameras, size, seed, shift. Attempt i uses scene seed `seed * SEED_SPACING + i` and
    successes are kept in that order, so that the file does not depend on `workers`. Raises InputError when the expert
    fails too often, OSError when the disk does.
    """
    task, demos, folder = recipe["task"], recipe["demos"], path.with_suffix(".parts")
    first = recipe["seed"] * SEED_SPACING
    jobs = [(folder, first + i, recipe["shift"]) for i in range(attempts(demos))]
    kept, failed = [], 0
    with open_parts(folder, recipe):
        bar = tqdm(total=demos, desc=f"recording {task}", unit="demo")
        with bar, worker_processes(workers, _start_worker, task, recipe["cameras"], recipe["size"]) as pool:
            for part in pool.map(_attempt, jobs):
                if part:
                    kept.append(part)
                    bar.update()
                else:
                    failed += 1
                    bar.set_postfix(failed=failed)
                if len(kept) == demos:
                    break
        if len(kept) == demos:
            assemble(path, kept, recipe)
        shutil.rmtree(folder, ignore_errors=True)  # what stays behind goes next time
    if len(kept) < demos:
        raise InputError(f"{task}: {len(kept)} of {len(jobs)} attempts succeeded, too few for {demos} demos; none kept")
    return failed


def attempts(demos):
    """How many scenes may be tried for so many demos."""
    return ATTEMPTS * demos + 10


def compare(path, found, recipe):
    """InputError unless `found`, the text of the recipe that `path` was made by, says what `recipe` does."""
    try:
        found = dict(json.loads(found))
    except (TypeError, ValueError):
        raise InputError(f"{path}: exists and is not of this program; move it away or choose another --out") from None
    for field, value in recipe.items():
        if (was := found.get(field)) != value:
            remedy = f"asked for is {value!r}; choose another --out or delete it"
            raise InputError(f"{path}: exists with {field}={was!r}, {remedy}")


def already_there(path, recipe):
    """Whether `path` holds exactly these demos; InputError if it holds something else, which is never overwritten."""
    if not path.exists():
        return False
    try:
        with h5py.File(path) as file:
            found = file["data"].attrs["recipe"]
    except (OSError, KeyError):
        found = ""
    compare(path, found, recipe)
    shutil.rmtree(path.with_suffix(".parts"), ignore_errors=True)  # left by a kill at the very end
    return True


def main():
    parser = Parser(prog="python -m sim.demos", description="Record demonstrations by the experts.", epilog=__doc__)
    add = parser.add_argument
    add("--tasks", nargs="+", default=["CloseDrawer"], metavar="TASK", help="names from python -m sim.tasks, or all")
    add("--demos", type=whole(1), default=50, help="successes per task; every tenth is held out for validation")
    add("--out", type=Path, default=Path("demos"), help="folder for the files, OUT/<Task>.hdf5")
    add("--workers", type=whole(1, 256), default=2, help="processes; the files are the same for any number")
    add("--cameras", nargs="+", default=["front"], metavar="CAMERA", help="front, side, wrist")
    add("--size", type=whole(16, 1024), default=64, help="side of a frame in pixels, a multiple of 16")
    add("--shift", choices=SHIFTS, default="none", help="record under a distribution shift")
    add("--seed", type=whole(0, EVALUATION_SEEDS // SEED_SPACING - 1), default=0, help="another seed, other scenes")
    args = parser.parse_args()

    from sim.env import CAMERAS

    for camera in args.cameras:
        if camera not in CAMERAS:
            raise InputError(f"--cameras: unknown camera {camera!r}; the cameras are {', '.join(CAMERAS)}")
    check_size(args.size)
    if attempts(args.demos) > SEED_SPACING:
        raise InputError(f"--demos: {args.demos} is more than one --seed has scenes for; record the rest with another")
    names = choose_tasks(args.tasks, TASKS)
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        megabytes = sum([record_task(name, args) for name in names])
    except KeyboardInterrupt:
        print(f"stopped; what is recorded is kept in {args.out}, the same command goes on with it", file=sys.stderr)
        raise
    if len(names) > 1:
        minutes = (time.monotonic() - started) / 60
        print(f"{len(names)} tasks: {len(names) * args.demos} demos, {minutes:.1f} minutes, {megabytes:.1f} MB")


def record_task(name, args):
    """OUT/<Task>.hdf5 by the flags, unless it is there already, and a line about it -> its megabytes."""
    path = args.out / f"{name}.hdf5"
    recipe = {"task": name} | {field: getattr(args, field) for field in ("demos", "cameras", "size", "seed", "shift")}
    done = f"{path}: already there"
    if not already_there(path, recipe):
        started = time.monotonic()
        failed = collect(path, recipe, args.workers)
        seconds = time.monotonic() - started
        done = f"{path}: {args.demos} demos, {failed} failed attempts thrown away, {seconds:.0f} s"
    megabytes = path.stat().st_size / 1e6
    print(f"{done}, {megabytes:.1f} MB")
    return megabytes


if __name__ == "__main__":
    command(main, InputError, SimError, OSError, BrokenProcessPool)
