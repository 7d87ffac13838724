"""How many floating-point operations the training of a policy takes: counted by torch on steps that are run."""

import dataclasses
from functools import cache

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from data.windows import Clip, Windows
from train import METHODS
from training.config import TrainConfig
from training.run_folder import TrainState
from videopolicy import Config, VideoPolicy


@cache
def training_flops(network: Config, config: TrainConfig, method: str) -> float:
    """All of a training by steps: one of each kind is run on made-up frames, counted, and taken so many times.

    Convolutions and matrix products, forwards and backwards, Muon's as well. A stage 1 that was run for another policy
    counts as if it had been run for this one; so do cached features, where there are fewer windows than config caches.
    """
    rng, c = np.random.default_rng(0), network
    frames = rng.integers(0, 256, (8, len(c.cameras), 3, c.image_size, c.image_size), dtype=np.uint8)
    actions = rng.uniform(-1, 1, (8, c.action_size)).astype(np.float32)
    windows = Windows([Clip(frames, actions, "move", "made up")], c)
    stats = {"video_std": 1.0, "action_low": actions.min(0), "action_high": actions.max(0)}

    def count(**changes) -> int:
        kept = {"steps": 1, "head_steps": 1, "cache_size": config.batch_size, "noise_per_window": config.cache_size}
        short = dataclasses.replace(config, minutes=None, **kept | changes)
        with FlopCounterMode(display=False) as counter:
            for _ in METHODS[method](VideoPolicy(c, ("move",), stats), windows, short, TrainState()):
                pass
        return counter.get_total_flops()

    once, cached = count(), -(-config.cache_size // config.batch_size)
    times = {"steps": (2, config.steps), "head_steps": (2, config.head_steps),
             "cache_size": (2 * config.batch_size, cached)}  # fmt: skip
    return float(once + sum((n - 1) * (count(**{field: twice}) - once) for field, (twice, n) in times.items()))
