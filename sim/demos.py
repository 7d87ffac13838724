"""Demonstration files: recording them with the scripted experts, in robomimic's HDF5 layout.

    data.attrs            env_args (JSON), total
    data/demo_0           attrs: num_samples, model_file, ep_meta (JSON: lang, task, seed, shift)
        actions           (N, 7) float64   what the expert would do there: what to learn
        actions_executed  (N, 7) float64   what was done, the expert's action and noise: what replays
        states            (N, S) float64   simulator state before each action: the demo can be replayed
        rewards, dones    (N,)
        obs/front_image   (N, H, W, 3) uint8, upright, one per camera
        obs/robot0_*      (N, ...) float64 eef_pos, eef_quat, gripper_qpos, joint_pos
    mask/train, mask/valid                 names of demos; every tenth is held out

Reading them for training is sim/windows.py. Two ways to start:

    python -m sim.demos --tasks CloseDrawer OpenDrawer --demos 50 --workers 2 --out demos
    python -m sim.demos --tasks CloseDrawer --demos 5 --out /tmp/demos           # a few seconds
"""

import json
import os
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from sim import SimError
from sim.cli import InputError, Parser, choose_tasks, command, whole, worker_processes
from sim.task import SHIFTS
from sim.tasks import TASKS

EVALUATION_SEEDS = 1_000_000  # evaluation starts here; demos must stay below, so that no scene is in both
SEED_SPACING = 50_000  # scenes of --seed 1 start here, of --seed 2 at twice that
# The expert is disturbed while it acts, and its own action is what is stored: demonstrations then show how to get back
# from where a learner's errors lead, and the labels are clean (DART, Laskey et al. 2017, arXiv 1703.09327).
NOISE = 0.1  # std of the disturbance of the six arm actions; 0.25 breaks contact-rich tasks
LINGER = 8  # steps recorded after success, so that "done, hold still" is seen
ATTEMPTS = 4  # give up after this many attempts per demo asked for


@dataclass
class Demo:
    """One successful episode: arrays of N steps, see the layout above."""

    seed: int
    prompt: str
    model_xml: str
    actions: np.ndarray  # (N, 7)
    executed: np.ndarray  # (N, 7)
    states: np.ndarray  # (N, S)
    images: dict  # camera -> (N, H, W, 3) uint8
    proprio: dict  # robot0_* -> (N, ...)


def record(env, seed, shift="none", noise=NOISE):
    """One attempt by the expert at the episode of `seed` -> Demo, or None where it fails."""
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
    images = np.stack(frames).transpose(1, 0, 3, 4, 2)  # (V, N, H, W, 3)
    return Demo(
        seed=seed,
        prompt=env.prompt,
        model_xml=model_xml,
        actions=np.stack(actions),
        executed=np.stack(executed),
        states=np.stack(states),
        images=dict(zip(env.cameras, images, strict=True)),
        proprio={key: np.stack([p[key] for p in proprio]) for key in proprio[0]},
    )


# ---------------------------------------------------------------------- writing


def write_demo(data, index, demo, task, shift):
    """Append one demo to the group `data` of an open file, as demo_<index>."""
    group = data.create_group(f"demo_{index}")
    group.attrs["num_samples"] = len(demo.actions)
    group.attrs["model_file"] = demo.model_xml
    group.attrs["ep_meta"] = json.dumps({"lang": demo.prompt, "task": task, "seed": demo.seed, "shift": shift})
    group["actions"] = demo.actions
    group["actions_executed"] = demo.executed
    group["states"] = demo.states
    group["rewards"] = np.zeros(len(demo.actions))
    group["rewards"][-1] = 1.0
    group["dones"] = np.zeros(len(demo.actions), dtype=np.int64)
    group["dones"][-1] = 1
    for camera, frames in demo.images.items():
        chunk = (min(16, len(frames)), *frames.shape[1:])
        group.create_dataset(f"obs/{camera}_image", data=frames, chunks=chunk, compression="gzip", compression_opts=1)
    for key, values in demo.proprio.items():
        group[f"obs/{key}"] = values


def write_masks(file, count):
    """mask/train and mask/valid: every tenth demo is held out of training."""
    names = [f"demo_{i}" for i in range(count)]
    valid = names[9::10]
    file["mask/train"] = np.array([name for name in names if name not in valid], dtype="S")
    file["mask/valid"] = np.array(valid, dtype="S")


# ------------------------------------------------------------------- collecting

_env = None  # one environment per worker process, built once


def _start_worker(task, cameras, size):
    global _env
    from sim.env import TaskEnv

    _env = TaskEnv(task, cameras=cameras, size=size)


def _attempt(job):
    seed, shift = job
    return record(_env, seed, shift)


def _env_args():
    return _env.env_args()


def collect(task, path, demos, *, cameras=("front",), size=64, workers=1, seed=0, shift="none"):
    """Record `demos` successes of a task's expert into `path` -> number of failed attempts.

    Attempt i uses scene seed `seed * SEED_SPACING + i` and successes are kept in that order, so that the file does
    not depend on `workers`. Raises InputError when the expert fails too often, OSError when the disk does.
    """
    start = seed * SEED_SPACING
    jobs = [(start + i, shift) for i in range(attempts(demos))]
    part = Path(f"{path}.part")
    kept = failed = 0
    with worker_processes(workers, _start_worker, task, cameras, size) as pool, h5py.File(part, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(pool.submit(_env_args).result())
        data.attrs["recipe"] = json.dumps(_recipe(task, demos, cameras, size, seed, shift))
        bar = tqdm(total=demos, desc=f"recording {task}", unit="demo")
        for demo in pool.map(_attempt, jobs):
            if demo is None:
                failed += 1
                bar.set_postfix(failed=failed)
                continue
            write_demo(data, kept, demo, task, shift)
            kept += 1
            bar.update()
            if kept == demos:
                break
        pool.shutdown(wait=False, cancel_futures=True)
        bar.close()
        if kept < demos:
            raise InputError(
                f"{task}: {kept} of {len(jobs)} attempts succeeded, {demos} demos were asked for; none kept"
            )
        data.attrs["total"] = sum(int(data[name].attrs["num_samples"]) for name in data)
        write_masks(file, kept)
    os.replace(part, path)
    return failed


def attempts(demos):
    """How many scenes may be tried for so many demos."""
    return ATTEMPTS * demos + 10


def _recipe(task, demos, cameras, size, seed, shift):
    return {"task": task, "demos": demos, "cameras": list(cameras), "size": size, "seed": seed, "shift": shift}


def already_there(path, recipe):
    """Whether `path` holds exactly these demos; InputError if it holds something else, which is never overwritten."""
    if not path.exists():
        return False
    try:
        with h5py.File(path) as file:
            found = dict(json.loads(file["data"].attrs["recipe"]))
    except (OSError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: exists and is not a file recorded here; move it away or choose another --out"
        ) from None
    for field, value in recipe.items():
        if found.get(field) != value:
            was = f"{path}: exists with {field}={found.get(field)!r}, asked for is {value!r}"
            raise InputError(f"{was}; choose another --out or delete it")
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
    if args.size % 16:
        raise InputError(f"--size: {args.size} is not a multiple of 16; try {args.size // 16 * 16 or 16}")
    if attempts(args.demos) > SEED_SPACING:
        raise InputError(f"--demos: {args.demos} is more than one --seed has scenes for; record the rest with another")
    names = choose_tasks(args.tasks, TASKS)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = args.out / f"{name}.hdf5"
        if already_there(path, _recipe(name, args.demos, args.cameras, args.size, args.seed, args.shift)):
            print(f"{path}: already there")
            continue
        started = time.monotonic()
        shot = {"cameras": tuple(args.cameras), "size": args.size}
        failed = collect(name, path, args.demos, **shot, workers=args.workers, seed=args.seed, shift=args.shift)
        seconds = time.monotonic() - started
        megabytes = path.stat().st_size / 1e6
        print(f"{path}: {args.demos} demos, {failed} failed attempts thrown away, {seconds:.0f} s, {megabytes:.0f} MB")


if __name__ == "__main__":
    command(main, InputError, SimError, OSError, BrokenProcessPool)
