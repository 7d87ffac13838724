"""The action head: generator features (and a noisy action chunk) -> action chunk. An MLP.

Each feature map is squeezed to a few channels and pooled to a coarse grid, so *where* something is stays readable;
the frames of the dream stay apart, so *when* does too.
"""

import torch
import torch.nn.functional as F
from torch import nn

from model.layers import NoiseEmbedding, zero


class ActionHead(nn.Module):
    """F(noisy actions, c_noise, features) -> (B, K, A).

    feature_channels: C of each feature map; frames T; views V; chunk K; action_size A; squeeze: channels kept of
    each map; grid: rows and columns kept.
    """

    def __init__(self, *, feature_channels, frames, views, chunk, action_size, squeeze, grid, width):
        super().__init__()
        self.grid, self.chunk, self.action_size = grid, chunk, action_size
        self.squeeze = nn.ModuleList(nn.Sequential(nn.LayerNorm(c), nn.Linear(c, squeeze)) for c in feature_channels)
        tokens = len(feature_channels) * frames * views * grid**2
        self.read = nn.Linear(tokens * squeeze, width)
        self.noisy = nn.Linear(chunk * action_size, width)
        self.noise = NoiseEmbedding(width)
        self.hidden = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), zero(nn.Linear(width, width))
            )
            for _ in range(2)
        )
        self.out = nn.Linear(width, chunk * action_size)

    def summarise(self, features):
        """[(B,T,V,C,h,w), ...] -> (B, D). Done once per decision, however many action steps follow."""
        parts = []
        for squeeze, f in zip(self.squeeze, features, strict=True):
            f = squeeze(f.movedim(3, -1)).movedim(-1, 3)  # (B, T, V, squeeze, h, w)
            parts.append(F.adaptive_avg_pool2d(f.flatten(0, 2), self.grid).reshape(f.shape[0], -1))
        return self.read(F.silu(torch.cat(parts, dim=1)))

    def forward(self, noisy, c_noise, summary):
        """noisy (B,K,A), c_noise (B,), summary (B,D) from `summarise` -> (B,K,A)."""
        h = summary + self.noisy(noisy.flatten(1)) + self.noise(c_noise)
        for block in self.hidden:
            h = h + block(h)
        return self.out(F.silu(h)).view(-1, self.chunk, self.action_size)
