"""How often a task's scripted expert succeeds on fresh scenes, and how often a blind robot does: what
`python -m sim.tasks --check` and `--blind` run.
"""

import time
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from cli import InputError, wilson, worker_processes
from sim.demos import EVALUATION_SEEDS
from sim.experts import run_expert

FIRST_SEED = 200_000_000  # where the check's scenes begin, far from those of demos and evaluation

_env = None  # each worker process builds its simulator once


def _start(name: str) -> None:
    global _env
    from sim.env import TaskEnv

    _env = TaskEnv(name)


def _episode(job: tuple[int, str, float]) -> tuple[bool, int, float]:
    start = time.perf_counter()
    success, steps = run_expert(_env, *job)
    return success, steps, time.perf_counter() - start


def _replay(job: tuple[int, str, np.ndarray]) -> bool:
    seed, shift, actions = job
    _env.reset(seed, shift)
    for step in range(_env.task.horizon):
        _env.step(actions[min(step, len(actions) - 1)])
        if _env.success():
            return True
    return False


def blind(name: str, folder: Path, episodes: int, workers: int, shift: str) -> str:
    """Replay recorded actions, one demo after another, on evaluation scenes that they do not belong to: one line.

    What a policy's success has to beat before it says that the policy looks. InputError for a file without actions.
    """
    path = folder / f"{name}.hdf5"
    try:
        with h5py.File(path) as file:
            demos = [demo["actions"][:] for demo in file["data"].values()]
        if not demos:
            raise KeyError("no demo in it")
    except (OSError, KeyError) as error:
        raise InputError(f"{path}: holds no demonstrations to replay ({error}); record them with sim.demos") from None
    import sim.env  # noqa: F401  fails here, in one line, rather than in every worker

    jobs = [(EVALUATION_SEEDS + i, shift, demos[i % len(demos)]) for i in range(episodes)]
    with worker_processes(workers, _start, name) as pool:
        won = sum(tqdm(pool.map(_replay, jobs), total=episodes, desc=name, leave=False))
    low, high = wilson(won, episodes)
    return f"{name}: replayed blindly, {won}/{episodes} [{low:.3f}, {high:.3f}]"


def check(name: str, episodes: int, workers: int, shift: str, seed: int, noise: float) -> tuple[int, str]:
    """Run a task's expert on fresh scenes -> how often it succeeded, and a line that says how it went.

    SimError where no simulator runs.
    """
    import sim.env  # noqa: F401  fails here, in one line, rather than in every worker

    first = FIRST_SEED + seed * episodes
    jobs = [(first + i, shift, noise) for i in range(episodes)]
    with worker_processes(workers, _start, name) as pool:
        results = list(tqdm(pool.map(_episode, jobs), total=episodes, desc=name, leave=False))
    won = sum(success for success, _, _ in results)
    low, high = wilson(won, episodes)
    steps = np.mean([steps for _, steps, _ in results])
    seconds = np.mean([seconds for _, _, seconds in results])
    line = f"{name}: {won}/{episodes} [{low:.3f}, {high:.3f}], {steps:.0f} steps, {seconds:.2f} s per demo"
    lost = [job[0] for job, (success, _, _) in zip(jobs, results, strict=True) if not success]
    return won, line + (f"; failed seeds: {' '.join(map(str, lost[:10]))}" if lost else "")
