"""Colours that differ from clip to clip, so that a network cannot rely on those of its training scenes."""

import torch
from torch.nn.functional import interpolate

MIX, STAIN = 0.15, 0.125  # standard deviations at strength 1, of pixels in [0, 1]
PATCHES = 4  # of the stain, per side of a frame: about the size of a fixture


def recolour(batch, generator, strength, index=0, count=1):
    """Batch with frames -> the same with other colours, one way for all frames of a clip.

    A pixel p in [0, 1]^3 becomes M p + s, clipped: M is the identity plus normal numbers, one matrix per clip, which
    turns hues (a random convolution of one pixel: Lee et al. 2020, arXiv 1910.05396); s is a smooth random stain over
    the picture, which stays where it is and colours one place unlike another. index, count: this process's share of
    the global batch, as in Noise.part.
    """
    size, device = len(batch.current) * count, batch.current.device

    def normal(*shape):
        return torch.randn(size, *shape, generator=generator, device=device)[index::count]

    mix = torch.eye(3, device=device) + strength * MIX * normal(3, 3)  # (B, 3, 3)
    views, side = batch.current.shape[1], batch.current.shape[-2:]
    stain = normal(views, 3, PATCHES, PATCHES).flatten(0, 1)
    stain = strength * STAIN * interpolate(stain, side, mode="bilinear").unflatten(0, (-1, views))  # (B, V, 3, H, W)

    frames = torch.cat([batch.current[:, None], batch.future], dim=1).float()  # (B, 1 + T, V, 3, H, W)
    frames = torch.einsum("bij,btvjhw->btvihw", mix, frames - 127.5) + 127.5 + 255 * stain[:, None]
    frames = frames.round().clamp(0, 255).to(torch.uint8)
    batch.current, batch.future = frames[:, 0], frames[:, 1:]
    return batch
