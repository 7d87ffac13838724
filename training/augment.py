"""Colours that differ from window to window, so that a network cannot rely on those of its training scenes.

Differs: the paper trains all its policies so; here it is a choice, since without a shift it may cost something.
"""

import dataclasses

import torch
from torch.nn.functional import interpolate

from training.device import seeded_generator

MATRIX_STD = 0.15  # standard deviation of the matrix's entries, at strength 1
STAIN_STD = 0.125  # standard deviation of the stain at the points of its grid, pixels being in [0, 1]
STAIN_GRID = 4  # rows and columns of that grid: a cell is about as large as a fixture


def color_jitter(batch, key, strength, index=0, count=1):
    """Batch -> the same in other colours, one way for all frames of a window, as the step's `key` has it.

    A pixel p in [0, 1]^3 becomes 1/2 + M (p - 1/2) + s, clipped. M, one of each window, is the identity plus normal
    numbers and turns hues (after the random convolutions of Lee et al. 2020, arXiv 1910.05396). s, one of each view, is
    a smooth random stain that stays in its place. index, count: this process and their number.
    """
    if not strength or batch.features is not None:
        return batch
    size, device = len(batch.current) * count, batch.current.device
    rng = seeded_generator([*key, 2], device)  # 2: a stream apart from those of windows and noise

    def normal(*shape):
        return torch.randn(size, *shape, generator=rng, device=device)[index::count]

    mix = torch.eye(3, device=device) + strength * MATRIX_STD * normal(3, 3)  # (B, 3, 3)
    views, side = batch.current.shape[1], batch.current.shape[-2:]
    stain = normal(views, 3, STAIN_GRID, STAIN_GRID).flatten(0, 1)
    stain = interpolate(stain, side, mode="bilinear").unflatten(0, (-1, views))  # (B, V, 3, H, W)
    stain = strength * STAIN_STD * stain

    frames = torch.cat([batch.current[:, None], batch.future], dim=1).float()  # (B, 1 + T, V, 3, H, W)
    frames = torch.einsum("bij,btvjhw->btvihw", mix, frames - 127.5) + 127.5 + 255 * stain[:, None]
    frames = frames.round().clamp(0, 255).to(torch.uint8).contiguous()
    return dataclasses.replace(batch, current=frames[:, 0], future=frames[:, 1:])
