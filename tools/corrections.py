"""Demonstrations of recovery: where a policy fails, the expert takes over and shows what is left to do.

    cp -r demos17 corrected17
    python -m tools.corrections --run checkpoints/seventeen --data corrected17 --tasks OpenDoubleDoor --demos 48

The policy acts in the scenes of sim.demos --seed 2. Where it fails, the episode is repeated up to a random step of its
second half, and the expert goes on from there: demonstrations of the states that the policy's own mistakes lead to
(DAgger, Ross et al. 2011, arXiv 1011.0686). They are added to DATA/<Task>.hdf5, after those that are there and all of
them to train on, so that what is held out stays the same.
"""

import json
from pathlib import Path

import h5py
import numpy as np
import torch
from tqdm import tqdm

from data.robomimic import add_demos, find_files
from evaluate import EvalConfig, closed_loop
from sim import shared_env
from sim.record import SEED_SPACING, attempts, record
from sim.tasks import TASKS
from util.cli import Parser, choose_tasks, command, int_range
from util.files import InputError
from videopolicy import VideoPolicy


def main():
    parser = Parser(prog="corrections", description="Record demonstrations of recovery.", epilog=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="whose policy acts, and fails")
    add("--data", type=Path, required=True, help="folder of <Task>.hdf5 files, to which the demonstrations are added")
    add("--tasks", nargs="+", required=True, metavar="TASK", help="names from python -m sim.tasks, or all")
    add("--demos", type=int_range(1), default=48, help="to be added to each task")
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy = VideoPolicy.load(args.run / "policy.pt")
    for task, path in find_files(args.data, choose_tasks(args.tasks, TASKS)).items():
        check(path, policy.config)
        add_demos(path, corrections(policy, task, args.demos))


def check(path, config):
    """InputError unless `path` is a file of sim.demos, as this policy sees it, to which nothing has been added."""
    try:
        with h5py.File(path) as file:
            added, recipe = "corrections" in file["data"].attrs, json.loads(file["data"].attrs["recipe"])
            seen = tuple(recipe["cameras"]), recipe["size"]
    except (OSError, KeyError, TypeError, ValueError):
        raise InputError(f"{path}: is not a file of python -m sim.demos; record one") from None
    if added:
        raise InputError(f"{path}: has demonstrations of recovery already; start from a new copy of the demos")
    if seen != (config.cameras, config.image_size):
        sees = f"--cameras {' '.join(config.cameras)} --size {config.image_size}"
        raise InputError(f"{path}: was recorded with other cameras or another size; the policy sees {sees}")


def corrections(policy, task, demos):
    """Demonstrations of recovery of one task, one by one, as sim.record's record gives them: so many, or what there is
    in as many scenes as recording may try. InputError where that is nothing.
    """
    env = shared_env(task, policy.config.cameras, policy.config.image_size)
    found = won = lost = 0
    with tqdm(total=demos, desc=f"correcting {task}", unit="demo") as bar:
        for i in range(attempts(demos)):
            seed = 2 * SEED_SPACING + i
            env.reset(seed)
            steps = closed_loop(env, policy, seed, EvalConfig(), env.prompt)
            taken = [decision.actions[k - 1] for decision, k in steps]
            if env.success():
                won += 1
                continue
            takeover = np.random.default_rng([seed, 3]).integers(len(taken) // 2, len(taken))
            if demo := record(env, seed, before=taken[:takeover]):
                found += 1
                yield demo
            else:
                lost += 1
            bar.update(found - bar.n)
            bar.set_postfix(won=won, lost=lost)
            if found == demos:
                break
    scenes = f"the policy won {won} scenes, from {lost} the expert did not recover"
    if not found:
        raise InputError(f"{task}: there is nothing to add; {scenes}")
    print(f"{task}: {found} demonstrations of recovery added; {scenes}")


if __name__ == "__main__":
    command(main)
