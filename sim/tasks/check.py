"""How often a task's scripted expert succeeds on fresh scenes: what `python -m sim.tasks --check` runs."""

import time

import numpy as np
from tqdm import tqdm

from sim.cli import wilson, worker_processes
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


def check(name: str, episodes: int, workers: int, shift: str, seed: int, noise: float) -> str:
    """Run a task's expert on fresh scenes and say how it went: one line. SimError where no simulator runs."""
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
    return line + (f"; failed seeds: {' '.join(map(str, lost[:10]))}" if lost else "")
