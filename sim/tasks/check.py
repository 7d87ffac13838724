"""How often a task's scripted expert succeeds on fresh scenes, and how often a replay of its demonstrations does: what
`python -m sim.tasks --check` and `--blind` run.
"""

import time

import numpy as np
from tqdm import tqdm

from cli import InputError, wilson, worker_processes
from data.robomimic import read_actions
from sim.experts import run_expert
from sim.record import EVALUATION_SEEDS

FIRST_SEED = 200_000_000  # where the check's scenes begin, far from those of demos and evaluation

_env = None  # each worker process builds its simulator once


def _start(name):
    global _env
    from sim.env import TaskEnv

    _env = TaskEnv(name)


def _run(name, work, jobs, workers):
    """work(job) for every job, by processes that have the task's simulator; SimError where none runs."""
    import sim.env  # noqa: F401  fails here, in one line, rather than in every worker

    with worker_processes(workers, _start, name) as pool:
        return list(tqdm(pool.map(work, jobs), total=len(jobs), desc=name, leave=False))


def _episode(job):
    start = time.perf_counter()
    success, steps = run_expert(_env, *job)
    return success, steps, time.perf_counter() - start


def _replay(job):
    seed, shift, actions = job
    _env.reset(seed, shift)
    for step in range(_env.task.horizon):
        _env.step(actions[min(step, len(actions) - 1)])
        if _env.success():
            return True
    return False


def open_loop_replay(name, folder, episodes, workers, shift):
    """Replay recorded actions, one demo after another, on evaluation scenes that they do not belong to: one line.

    What a policy's success has to beat before it says that the policy looks. InputError for a file without actions.
    """
    path = folder / f"{name}.hdf5"
    demos = read_actions(path)
    if any(actions.shape[1] != 7 for actions in demos):
        raise InputError(f"{path}: actions are not (N, 7), so not of this robot; record them with python -m sim.demos")
    jobs = [(EVALUATION_SEEDS + i, shift, demos[i % len(demos)]) for i in range(episodes)]
    won = sum(_run(name, _replay, jobs, workers))
    low, high = wilson(won, episodes)
    return f"{name}: open-loop replay {won}/{episodes} [{low:.2f}, {high:.2f}]"


def check(name, episodes, workers, shift, seed, noise):
    """Run a task's expert on fresh scenes -> how often it succeeded, and a line that says how it went."""
    first = FIRST_SEED + seed * episodes
    jobs = [(first + i, shift, noise) for i in range(episodes)]
    results = _run(name, _episode, jobs, workers)
    won = sum(success for success, _, _ in results)
    low, high = wilson(won, episodes)
    _, steps, seconds = np.mean(results, axis=0)
    line = f"{name}: {won}/{episodes} [{low:.3f}, {high:.3f}], {steps:.0f} steps, {seconds:.2f} s per demo"
    lost = [job[0] for job, (success, _, _) in zip(jobs, results, strict=True) if not success]
    return won, line + (f"; failed seeds: {' '.join(map(str, lost[:10]))}" if lost else "")
