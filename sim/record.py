"""Recording demonstrations by the scripted experts, or play data; it can be stopped at any moment and goes on.

Each attempt is a file in OUT/<Task>.parts, named by its scene seed and empty where the expert failed; enough successes
are copied into OUT/<Task>.hdf5. `flags` is a dict of task, demos, cameras, size, seed, shift, play and noise, on which
alone the result depends. Files keep it as `recipe`.
"""

import json
import shutil
from contextlib import contextmanager
from itertools import islice

import h5py
import numpy as np
from tqdm import tqdm

from data.robomimic import assemble, new_file, write_demo
from sim import experts, shared_env
from util.cli import worker_processes
from util.files import InputError, check_same, locked, read_json, write_file

EVALUATION_SEEDS = 1_000_000  # evaluation starts here; demos stay below, so that no scene is in both
EPISODES_PER_SEED = 100_000  # between the first scenes of evaluate.py --seed 0, 1, 2, ...
SEED_SPACING = 50_000  # between the first scenes of sim.demos --seed 0, 1, 2, ...
TRIES, SPARE = 4, 10  # scenes that may be tried for each demo, and how many more
MOST_DEMOS = (SEED_SPACING - SPARE) // TRIES  # of one --seed, so that it tries none of the next one's scenes
# The expert is disturbed (std) but its undisturbed action is stored: demonstrations then show how to recover from a
# learner's errors, and the labels are clean (DART, Laskey et al. 2017, arXiv 1703.09327). More breaks rich contacts.
NOISE = 0.1
LINGER = 8  # steps recorded after success, so that a policy learns to hold still then
PLAY_STEPS, PLAY_PROMPT = 150, "play with what is there"


def record(env, seed, shift="none", noise=NOISE, play=False):
    """One attempt by the expert -> (attributes, arrays) of a demo, see data/robomimic.py; None where it fails. `play`
    is PLAY_STEPS of random motion instead, undisturbed, which cannot fail.
    """
    env.reset(seed, shift)
    rng = np.random.default_rng([seed, 1])  # 1: the stream of the disturbance, apart from the scene's
    frames, states, actions, executed, proprio, linger = [], [], [], [], [], 0
    script = islice(experts.play(env, np.random.default_rng([seed, 2])), PLAY_STEPS) if play else experts.expert(env)
    for intended in script:
        frames.append(env.observe())
        states.append(env.state())
        proprio.append(env.proprio())
        disturbance = np.append((0 if play else noise) * rng.standard_normal(6), 0.0)
        actions.append(np.clip(intended, -1, 1))
        executed.append(np.clip(intended + disturbance, -1, 1))
        env.step(executed[-1])
        linger += env.success()
        if not play and (linger > LINGER or len(actions) >= env.task.horizon):
            break
    if not (play or env.success()):
        return None
    last = np.arange(len(actions)) == len(actions) - 1
    arrays = {"actions": actions, "actions_executed": executed, "states": states,
              "rewards": last.astype(np.float64), "dones": last.astype(np.int64)}  # fmt: skip
    arrays |= {f"obs/{camera}_image": [f[v].transpose(1, 2, 0) for f in frames] for v, camera in enumerate(env.cameras)}
    arrays |= {f"obs/{key}": [p[key] for p in proprio] for key in proprio[0]}
    meta = {"lang": PLAY_PROMPT if play else env.prompt, "task": env.task.name, "seed": seed, "shift": shift}
    attributes = {"num_samples": len(actions), "model_file": env.model_xml(), "ep_meta": json.dumps(meta)}
    return attributes, {name: np.stack(rows) for name, rows in arrays.items()}


def evaluation_seed(episode, seed=0):
    """The seed of the `episode`-th scene of evaluate.py --seed `seed`."""
    return EVALUATION_SEEDS + seed * EPISODES_PER_SEED + episode


def collect(path, flags, workers=1):
    """Record a task's demos into `path`, in the order of their seeds for any `workers` -> number of failed attempts;
    InputError when the expert fails too often.
    """
    task, demos, folder = flags["task"], flags["demos"], path.with_suffix(".parts")
    jobs = [(folder, flags["seed"] * SEED_SPACING + i, flags) for i in range(TRIES * demos + SPARE)]
    kept, failed = [], 0
    with open_parts(folder, flags):
        if path.exists():  # it did not before the lock
            raise InputError(f"{path}: another process has just recorded it; choose another --out or delete it")
        bar = tqdm(total=demos, desc=f"recording {task}", unit="demo")
        with bar, worker_processes(workers, shared_env, task, tuple(flags["cameras"]), flags["size"]) as pool:
            for part in pool.map(_attempt, jobs):
                kept += [part] if part else []
                failed += not part
                bar.update(bool(part))
                bar.set_postfix(failed=failed)
                if len(kept) == demos:
                    break
        if len(kept) == demos:
            assemble(path, kept, flags)
        shutil.rmtree(folder, ignore_errors=True)  # what cannot be deleted now is deleted next time
    if len(kept) < demos:
        raise InputError(f"{task}: {len(kept)} of {len(jobs)} attempts succeeded, too few for {demos} demos; none kept")
    return failed


def _attempt(job):
    """Store one attempt among the parts, unless it exists -> its file, or None where the expert failed."""
    folder, seed, flags = job
    part = folder / f"{seed}.hdf5"
    if not part.exists():
        env = shared_env(flags["task"], tuple(flags["cameras"]), flags["size"])
        demo = record(env, seed, flags["shift"], flags["noise"], flags["play"])
        if demo is None:
            return part.touch()
        with new_file(part) as file:
            file.attrs["env_args"] = json.dumps(env.env_args())
            write_demo(file.create_group("demo"), *demo)
    return part if part.stat().st_size else None


@contextmanager
def open_parts(folder, flags):
    """Make or continue the folder of parts and lock it; InputError for another process's, or parts of other flags."""
    folder.mkdir(exist_ok=True)
    with locked(folder, "another process is recording here; wait for it or choose another --out"):
        made_by = folder / "recipe.json"
        if made_by.exists():
            check_same(folder, read_json(made_by), flags)
            print(f"{folder}: going on after {len(list(folder.glob('[0-9]*.hdf5')))} attempts", flush=True)
        else:
            write_file(made_by, json.dumps(flags))
        yield


def already_there(path, flags):
    """Whether `path` holds exactly these demos; InputError if it holds anything else, which is never overwritten."""
    if not path.exists():
        return False
    try:
        with h5py.File(path) as file:
            found = {"noise": NOISE} | json.loads(file["data"].attrs["recipe"])  # files of before the flag name none
    except (OSError, KeyError, TypeError, ValueError):
        found = None
    check_same(path, found, flags)
    shutil.rmtree(path.with_suffix(".parts"), ignore_errors=True)  # left by a kill at the very end
    return True
