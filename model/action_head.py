"""The action head: generator features (and a noisy action chunk) -> action chunk. An MLP.

Each feature map is pooled to a coarse grid and squeezed to a few channels, so *where* something is stays readable;
the future frames stay apart, so *when* does too. Differs: the paper has 3D convolutions and a 1D U-Net, 367 M.

Another head takes its place as one row of `HEADS` in videopolicy.py. It has a dataclass `Config`, and VideoPolicy calls
its `pool`, `summarise` and `forward`, training/noise.py its `draw_dropout`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from model.layers import NoiseEmbedding, zero
from util.files import check_ranges


@dataclass(frozen=True)
class HeadConfig:
    """The shape of the head, and its dropout."""

    squeeze: int = 8  # channels kept of each feature map; 16 and a width of 512 decode no better
    grid: int = 4  # rows and columns kept of each map: where things are
    width: int = 256
    # Without dropout the thousands of numbers that the head reads let it learn every demonstration by heart.
    # Differs: the paper names none.
    dropout: float = 0.8

    def __post_init__(self):
        counts = {"squeeze": self.squeeze, "grid": self.grid, "width": self.width}
        check_ranges(self, **{field: (count > 0, "at least 1") for field, count in counts.items()})
        check_ranges(self, dropout=(0 <= self.dropout < 1, "from 0 to below 1"))


class ActionHead(nn.Module):
    """F(noisy actions, c_noise, features) -> (B, K, A).

    config: a HeadConfig; feature_shapes: (T, V, C, h, w) of each feature map; chunk K; action_size A.
    """

    Config = HeadConfig

    def __init__(self, config, feature_shapes, *, chunk, action_size):
        super().__init__()
        c = self.config = config
        self.chunk, self.action_size = chunk, action_size
        self.squeeze = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(C), nn.Linear(C, c.squeeze)) for _, _, C, _, _ in feature_shapes
        )
        self.inputs = sum(T * V * c.grid**2 * c.squeeze for T, V, _, _, _ in feature_shapes)
        self.read = nn.Linear(self.inputs, c.width)
        self.noisy = nn.Linear(chunk * action_size, c.width)
        self.noise = NoiseEmbedding(c.width)
        self.hidden = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(c.width), nn.SiLU(), nn.Linear(c.width, c.width), nn.SiLU(),
                zero(nn.Linear(c.width, c.width)),
            )
            for _ in range(2)
        )  # fmt: skip
        self.out = nn.Linear(c.width, chunk * action_size)

    def pool(self, maps):
        """[(B,T,V,C,h,w), ...] -> [(B,T,V,g,g,C), ...]: what the head reads of each map; a feature cache keeps this."""
        pooled = [F.adaptive_avg_pool2d(f.flatten(0, 2), self.config.grid).unflatten(0, f.shape[:3]) for f in maps]
        return [f.movedim(3, -1) for f in pooled]

    def draw_dropout(self, batch, samples, rng):
        """Dropout masks (B, R, inputs): 0 where a number is taken away, 1 / (1 - dropout) elsewhere."""
        p = self.config.dropout
        return (torch.rand(batch, samples, self.inputs, generator=rng, device=rng.device) >= p) / (1 - p)

    def summarise(self, pooled, dropout=None):
        """[(B,T,V,g,g,C), ...] from `pool` -> (B, width). Once per decision, however many action steps follow.

        dropout (B, R, inputs): in training, R masks for each window -> (B, R, width).
        """
        parts = [squeeze(f).flatten(1) for squeeze, f in zip(self.squeeze, pooled, strict=True)]
        x = F.silu(torch.cat(parts, dim=1))  # (B, inputs)
        return self.read(x if dropout is None else x[:, None] * dropout)

    def forward(self, noisy, c_noise, summary):
        """noisy (B,K,A), c_noise (B,), summary (B,width) from `summarise` -> (B,K,A)."""
        h = summary + self.noisy(noisy.flatten(1)) + self.noise(c_noise)
        for block in self.hidden:
            h = h + block(h)
        return self.out(F.silu(h)).view(-1, self.chunk, self.action_size)
