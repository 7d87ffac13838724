"""What a frozen generator says of many noisy windows, computed once: a step of stage 2 is then one of a small MLP."""

import math
import time

import numpy as np
import torch
from tqdm import tqdm

from training.color_jitter import recolour
from training.device import generator_of
from training.distributed import agree, gather, process
from videopolicy import collate, draw_noise


class Memory:
    """Windows with the features of a frozen generator in place of their frames; memory[i] as windows[i]."""

    def __init__(self, windows, picked, features):
        self.windows, self.picked, self.features = windows, picked, features

    def __getitem__(self, i):
        window = self.windows[self.picked[i]]
        labels = {name: window[name] for name in ("actions", "pad", "has_actions", "prompt")}
        return labels | {"features": [f[i] for f in self.features]}

    def draw(self, batch_size, key):
        """Indices of one step, a pure function of `key`."""
        return np.random.default_rng(key).integers(len(self.picked), size=batch_size).tolist()


@torch.no_grad()
def remember(policy, windows, run, stage, share):
    """Compute the pooled features of recipe.memory windows, each at a noise level of its own -> Memory.

    Of fewer where there are few, and, with --minutes, where that would take more than 0.4 of the time of the stage. As
    in training, clips and noise are drawn by (seed, stage, number) alone: with --steps, a resumed run remembers the
    same.
    """
    recipe, device, (rank, world) = run.recipe, policy.video_std.device, process()
    size, started = recipe.batch_size, time.monotonic()
    batches = -(-min(recipe.memory, recipe.draws * len(windows)) // size)
    picked, features = [], []
    longest = 0.4 * 60 * run.minutes * share if run.minutes else math.inf
    for i in tqdm(range(batches), desc="features", leave=False, disable=rank > 0):
        if i > 0 and agree(time.monotonic() - started, device) > longest:
            break
        key = [run.seed, stage, i, 1]  # 1: a stream apart from that of the steps
        drawn = windows.draw(size, key)
        noise = draw_noise(policy.config, size, generator_of(key, device), recipe.pure_share)
        batch = collate([windows[j] for j in drawn[rank::world]]).to(device)
        batch = recolour(batch, key, run.recolour, rank, world)
        with torch.autocast(device.type, torch.bfloat16, enabled=run.precision == "bf16"):
            *_, maps = policy.one_pass(batch, noise.part(rank, world))
        picked += drawn
        pooled = [gather(f.half()).cpu().numpy() for f in policy.head.pool(maps)]
        features = features or [np.empty((batches * size, *f.shape[1:]), np.float16) for f in pooled]
        for level, f in zip(features, pooled, strict=True):
            level[i * size : (i + 1) * size] = f
    run.spent = time.monotonic() - started
    if run.state.step == 0:
        run.state.seconds = run.spent
    return Memory(windows, picked, features)
