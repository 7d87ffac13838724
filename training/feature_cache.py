"""A frozen generator's features of many noisy windows, computed once: a step of stage 2 is then one of a small MLP.

Differs: the paper runs the generator at every step of stage 2.
"""

import time

import numpy as np
import torch

from training.device import autocast, gather, rank_and_world, seeded_generator, to_device
from training.noise import draw_noise
from util.files import Spool
from videopolicy import collate

LARGEST_HALF = torch.finfo(torch.half).max


class FeatureCache:
    """Windows with cached features in place of their frames; drawn from as windows are."""

    def __init__(self, windows, picked, features):
        self.windows, self.picked, self.features = windows, picked, features

    def __getitem__(self, i):
        return self.windows.labels(self.picked[i]) | {"features": [f[i] for f in self.features]}

    def draw(self, batch_size, key):
        """Indices of one step, a pure function of `key`."""
        return np.random.default_rng(key).integers(len(self.picked), size=batch_size).tolist()


def cache_features(policy, windows, config, state):
    """Compute what the head reads of config.cache_size windows, each at a noise level of its own -> FeatureCache.

    A generator of {stage, step, steps} that returns the cache: `cache = yield from cache_features(...)`. Windows and
    noise are drawn by (seed, stage, number) alone, as in training: a resumed run caches the same.
    """
    device, (rank, world) = policy.video_std.device, rank_and_world()
    size, started = config.batch_size, time.monotonic()
    count = -(-min(config.cache_size, config.noise_per_window * len(windows)) // size)
    stage, picked, spools = state.number, [], []
    for i in range(count):
        key = [config.seed, stage, i, 1]  # 1: a stream apart from that of the steps
        drawn = windows.draw(size, key)
        batch = to_device(collate([windows[j] for j in drawn[rank::world]]), device)
        noise = draw_noise(policy.config, policy.head, batch, seeded_generator(key, device))
        with torch.no_grad(), autocast(device, config.precision):
            pooled = policy.features(batch, noise)
        picked += drawn
        # Beyond half's largest number a feature would become infinite. Cut off in float: bfloat16 rounds the bound up.
        pooled = [gather(f.float().clamp(-LARGEST_HALF, LARGEST_HALF).half()).cpu().numpy() for f in pooled]
        spools = spools or [Spool() for _ in pooled]
        for spool, f in zip(spools, pooled, strict=True):
            spool.append(f)
        yield {"stage": "features", "step": i + 1, "steps": count}
    if state.step == 0:
        state.seconds = time.monotonic() - started
    features = [spool.mapped(np.float16).reshape(-1, *f.shape[1:]) for spool, f in zip(spools, pooled, strict=True)]
    return FeatureCache(windows, picked, features)
