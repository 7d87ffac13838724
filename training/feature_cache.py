"""A frozen generator's features of many noisy windows, computed once: a step of stage 2 is then one of a small MLP.

Differs: the paper runs the generator at every step of stage 2.
"""

import math
import time

import numpy as np
import torch
from tqdm import tqdm

from training.color_jitter import color_jitter
from training.device import autocast, seeded_generator
from training.distributed import broadcast_or_stop, gather, rank_and_world
from training.noise import draw_noise
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


@torch.no_grad()
def cache_features(policy, windows, config, state, share=1.0):
    """Compute the pooled features of config.cache_size windows, each at a noise level of its own -> FeatureCache.

    Of fewer if there are not as many, or if, with --minutes, that would take more than 40 % of the stage's time. As in
    training, windows and noise are drawn by (seed, stage, number) alone: with --steps, a resumed run caches the same.
    """
    device, (rank, world) = policy.video_std.device, rank_and_world()
    size, started = config.batch_size, time.monotonic()
    batches = -(-min(config.cache_size, config.noise_per_window * len(windows)) // size)
    picked, features = [], []
    longest = 0.4 * 60 * config.minutes * share if config.minutes else math.inf
    for i in tqdm(range(batches), desc="features", leave=False, disable=rank > 0):
        if broadcast_or_stop(time.monotonic() - started, state, device) > longest and i > 0:
            break
        key = [config.seed, state.stage, i, 1]  # 1: a stream apart from that of the steps
        drawn = windows.draw(size, key)
        noise = draw_noise(policy.config, size, seeded_generator(key, device), config.p_sigma_max)
        batch = collate([windows[j] for j in drawn[rank::world]]).to(device)
        batch = color_jitter(batch, key, config.color_jitter, rank, world)
        with autocast(device, config.precision):
            pooled = policy.features(batch, noise.part(rank, world))
        picked += drawn
        # One cloned network's features went beyond half's largest number, 65504, and became infinite: cut off. In
        # float, since bfloat16 would round the bound itself up to 65536.
        pooled = [gather(f.float().clamp(-LARGEST_HALF, LARGEST_HALF).half()).cpu().numpy() for f in pooled]
        features = features or [np.empty((batches * size, *f.shape[1:]), np.float16) for f in pooled]
        for level, f in zip(features, pooled, strict=True):
            level[i * size : (i + 1) * size] = f
    state.cache_seconds = time.monotonic() - started
    if state.step == 0:
        state.seconds = state.cache_seconds
    return FeatureCache(windows, picked, features)
