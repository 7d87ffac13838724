"""The table of tasks, and a check of their scripted experts.

    python -m sim.tasks                                        # names, prompts, longest episodes
    python -m sim.tasks --check --episodes 100 --workers 2     # run each expert on fresh scenes
"""

import argparse
import multiprocessing
import sys
import time
from math import sqrt

import numpy as np

from sim import SimError
from sim.task import SHIFTS
from sim.tasks import TASKS

FIRST_SEED = 5_000_000  # the check's scenes, unless --seed says otherwise: far from those of demos and evaluation
SETTLING = 20  # steps that an expert may hold still at the end for its success to be counted


def main() -> None:
    args = _parser().parse_args()
    if not args.check:
        return _print_table()
    if args.tasks == ["all"]:
        args.tasks = list(TASKS)
    unknown = [name for name in args.tasks if name not in TASKS]
    if unknown:
        return _fail(f"unknown task {unknown[0]!r}: choose from {', '.join(TASKS)}, or all")
    if args.episodes < 1 or args.workers < 1 or args.seed < 0 or args.noise < 0:
        return _fail("--episodes and --workers must be at least 1, --seed and --noise at least 0")
    try:
        for name in args.tasks:
            print(check(name, args.episodes, args.workers, args.shift, args.seed, args.noise), flush=True)
    except SimError as error:
        _fail(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.tasks", description="Print the table of tasks, or check their scripted experts."
    )
    parser.add_argument("--check", action="store_true", help="run the experts and print their success")
    parser.add_argument("--tasks", nargs="+", default=["all"], metavar="TASK", help="names, or all (default)")
    parser.add_argument("--episodes", type=int, default=100, help="fresh scenes per task (default 100)")
    parser.add_argument("--workers", type=int, default=1, help="processes, one simulator each (default 1)")
    parser.add_argument("--shift", choices=SHIFTS, default="none", help="which scenes (default none: training)")
    parser.add_argument("--seed", type=int, default=0, help="another set of scenes (default 0)")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of noise added to the "
                        "six arm numbers of every action (default 0)")
    return parser


def _fail(message: str) -> None:
    print(message, file=sys.stderr)
    sys.exit(2)


def _print_table() -> None:
    width = max(map(len, TASKS))
    prompts = max(len(task.prompt) for task in TASKS.values())
    print(f"{'task':<{width}}  {'prompt':<{prompts}}  family  longest episode")
    for task in TASKS.values():
        print(f"{task.name:<{width}}  {task.prompt:<{prompts}}  {task.family:<6}  {task.horizon / 20:.0f} s")


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a success rate (Wilson 1927): two numbers in [0, 1]."""
    z = 1.96
    p, extra = successes / n, z * z / n
    middle = (p + extra / 2) / (1 + extra)
    half = z * sqrt(p * (1 - p) / n + extra / (4 * n)) / (1 + extra)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def run_expert(env, seed: int, shift: str = "none", noise: float = 0.0) -> tuple[bool, int]:
    """One episode of the scripted expert with noise on its actions: (success, control steps)."""
    from sim.experts import expert

    env.reset(seed, shift)
    rng = np.random.default_rng(seed)
    steps, action = 0, np.zeros(7)
    for action in expert(env):
        action[:6] += noise * rng.standard_normal(6)
        env.step(action)
        steps += 1
        if env.success() or steps == env.task.horizon:
            return env.success(), steps
    for _ in range(min(SETTLING, env.task.horizon - steps)):
        env.step(np.array([0, 0, 0, 0, 0, 0, action[6]]))
        steps += 1
        if env.success():
            break
    return env.success(), steps


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
    """Run a task's expert on fresh scenes and say how it went: one line."""
    from tqdm import tqdm

    import sim.env  # noqa: F401  fails here, in one line, rather than once per worker

    first = FIRST_SEED + seed * episodes
    jobs = [(first + i, shift, noise) for i in range(episodes)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_start, initargs=(name,)) as pool:
        results = list(tqdm(pool.imap(_episode, jobs), total=episodes, desc=name, leave=False))
    won = sum(success for success, _, _ in results)
    low, high = wilson(won, episodes)
    steps = np.mean([steps for _, steps, _ in results])
    seconds = np.mean([seconds for _, _, seconds in results])
    lost = [job[0] for job, (success, _, _) in zip(jobs, results, strict=True) if not success]
    line = f"{name}: {won}/{episodes} [{low:.3f}, {high:.3f}], {steps:.0f} steps, {seconds:.2f} s per demo"
    return line + (f"; failed seeds {lost[:10]}" if lost else "")


if __name__ == "__main__":
    main()
