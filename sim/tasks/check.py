"""Success rates of a task's scripted expert on fresh scenes, and of an open-loop replay of its demonstrations."""

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

FIRST_SEED = 200_000_000  # of the scenes of a check, apart from those of demos and evaluation


def _run(name, jobs, workers):
    """_episode(job) for every job, in worker processes."""
    import sim.env  # noqa: F401  where no simulator runs, raise InputError here instead of in every worker

    with worker_processes(workers, shared_env, name) as pool:
        return list(tqdm(pool.map(_episode, jobs), total=len(jobs), desc=name, leave=False))


def _episode(job):
    """(success, control steps, seconds) of the expert, or of a demo's actions, the last of which is repeated."""
    name, seed, shift, noise, demo = job
    actions = None if demo is None else chain(demo, repeat(demo[-1]))
    start = time.perf_counter()
    return *run_expert(shared_env(name), seed, shift, noise, actions), time.perf_counter() - start


def rate(successes, episodes, digits=3):
    """A success rate and its interval as text."""
    low, high = wilson(successes, episodes)
    return f"{successes}/{episodes} [{low:.{digits}f}, {high:.{digits}f}]"


def open_loop_replay(name, folder, episodes, workers, shift, seed=0):
    """Replay recorded actions, one demo after another, on evaluate.py's scenes -> successes, and a line of text."""
    path = folder / f"{name}.hdf5"
    demos = read_actions(path)
    if any(actions.shape[1] != 7 for actions in demos):
        raise InputError(f"{path}: actions are not (N, 7), so not of this robot; record them with python -m sim.demos")
    jobs = [(name, evaluation_seed(i, seed), shift, 0.0, demos[i % len(demos)]) for i in range(episodes)]
    successes = sum(success for success, *_ in _run(name, jobs, workers))
    return successes, f"{name}: open-loop replay {rate(successes, episodes, digits=2)}"


def check(name, episodes, workers, shift, seed, noise):
    """Run a task's expert on fresh scenes -> successes, and a line of text."""
    seeds = [FIRST_SEED + seed * episodes + i for i in range(episodes)]
    results = _run(name, [(name, scene, shift, noise, None) for scene in seeds], workers)
    _, steps, seconds = np.mean(results, axis=0)
    failed = [str(scene) for scene, (success, *_) in zip(seeds, results, strict=True) if not success]
    line = f"{name}: {rate(episodes - len(failed), episodes)}, {steps:.0f} steps, {seconds:.2f} s per demo"
    return episodes - len(failed), line + (f"; failed seeds: {' '.join(failed[:10])}" if failed else "")
