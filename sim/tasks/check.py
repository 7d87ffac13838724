"""How often a task's scripted expert succeeds on fresh scenes, and how often a replay of its demonstrations does."""

import time
from itertools import chain, repeat

import numpy as np
from tqdm import tqdm

from data.robomimic import read_actions
from sim import shared_env
from sim.experts import run_expert
from sim.record import evaluation_seed
from util.cli import wilson, worker_processes
from util.files import InputError

FIRST_SEED = 200_000_000  # where the check's scenes begin, far from those of demos and evaluation


def _run(name, jobs, workers):
    """_episode(job) for every job, by processes that have the task's simulator; SimError where none runs."""
    import sim.env  # noqa: F401  fails here, in one line, rather than in every worker

    with worker_processes(workers, shared_env, name) as pool:
        return list(tqdm(pool.map(_episode, jobs), total=len(jobs), desc=name, leave=False))


def _episode(job):
    """(success, control steps, seconds) of the expert, or of a demo's actions, the last of which goes on."""
    name, seed, shift, noise, demo = job
    actions = None if demo is None else chain(demo, repeat(demo[-1]))
    start = time.perf_counter()
    return *run_expert(shared_env(name), seed, shift, noise, actions), time.perf_counter() - start


def rate(won, episodes, digits=3):
    """A success rate and its interval in words."""
    low, high = wilson(won, episodes)
    return f"{won}/{episodes} [{low:.{digits}f}, {high:.{digits}f}]"


def open_loop_replay(name, folder, episodes, workers, shift, seed=0):
    """Replay recorded actions, one demo after another, on evaluation scenes that they do not belong to -> how often
    that succeeded, which a policy has to beat before its success says that it looks, and a line about it.

    InputError for a file without actions.
    """
    path = folder / f"{name}.hdf5"
    demos = read_actions(path)
    if any(actions.shape[1] != 7 for actions in demos):
        raise InputError(f"{path}: actions are not (N, 7), so not of this robot; record them with python -m sim.demos")
    jobs = [(name, evaluation_seed(i, seed), shift, 0.0, demos[i % len(demos)]) for i in range(episodes)]
    won = sum(success for success, *_ in _run(name, jobs, workers))
    return won, f"{name}: open-loop replay {rate(won, episodes, digits=2)}"


def check(name, episodes, workers, shift, seed, noise):
    """Run a task's expert on fresh scenes -> how often it succeeded, and a line that says how it went."""
    seeds = [FIRST_SEED + seed * episodes + i for i in range(episodes)]
    results = _run(name, [(name, scene, shift, noise, None) for scene in seeds], workers)
    _, steps, seconds = np.mean(results, axis=0)
    lost = [str(scene) for scene, (success, *_) in zip(seeds, results, strict=True) if not success]
    won = episodes - len(lost)
    line = f"{name}: {rate(won, episodes)}, {steps:.0f} steps, {seconds:.2f} s per demo"
    return won, line + (f"; failed seeds: {' '.join(lost[:10])}" if lost else "")
