"""The action head: generator features (and a noisy action chunk) -> action chunk. An MLP.

Each feature map is pooled to a coarse grid and squeezed to a few channels, so *where* something is stays readable;
the frames of the dream stay apart, so *when* does too. Differs: the paper has 3D convolutions and a 1D U-Net, 367 M.

Another head can take its place. VideoPolicy calls its `pool`, `summarise` and `forward`; training/noise.py draws its
dropout, a mask of Config.head_inputs numbers; and HEAD_ONLY in training/setup.py names the fields of Config that are
the head's alone, in which a run may differ from the one whose generator it takes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from model.layers import ChannelNorm, NoiseEmbedding, zero


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

    def pool(self, features):
        """[(B,T,V,C,h,w), ...] -> [(B,T,V,g,g,C), ...]: as much of each map as the head will look at."""
        pooled = [F.adaptive_avg_pool2d(f.flatten(0, 2), self.grid).unflatten(0, f.shape[:3]) for f in features]
        return [f.movedim(3, -1) for f in pooled]

    def summarise(self, pooled, dropout_mask=None):
        """[(B,T,V,g,g,C), ...] from `pool` -> (B, width). Done once per decision, however many action steps follow.

        dropout_mask (B, R, inputs): in training, R masks for each window, already rescaled -> (B, R, width).
        """
        parts = [squeeze(f).flatten(1) for squeeze, f in zip(self.squeeze, pooled, strict=True)]
        x = F.silu(torch.cat(parts, dim=1))  # (B, inputs)
        return self.read(x if dropout_mask is None else x[:, None] * dropout_mask)

    def forward(self, noisy, c_noise, summary):
        """noisy (B,K,A), c_noise (B,), summary (B,width) from `summarise` -> (B,K,A)."""
        h = summary + self.noisy(noisy.flatten(1)) + self.noise(c_noise)
        for block in self.hidden:
            h = h + block(h)
        return self.out(F.silu(h)).view(-1, self.chunk, self.action_size)


class PairEncoder(nn.Module):
    """The eyes of an inverse dynamics model: pairs of consecutive frames -> a feature map per pair, (B,T,V,C,h,w).

    In place of the generator's features it gives the same action head *pixels* to read: what moved between one frame
    and the next (the idea of UniPi, arXiv 2302.00111, and Dreamitate, arXiv 2406.16862). patch: pixel-unshuffle factor;
    widths: channels of each level, finest first, each half as large as the one before.
    """

    def __init__(self, *, patch, widths):
        super().__init__()
        self.patch = patch
        channels = (2 * 3 * patch**2, *widths)
        layers = []
        for i, (cin, cout) in enumerate(zip(channels, channels[1:], strict=False)):
            layers += [nn.Conv2d(cin, cout, 3, stride=1 if i == 0 else 2, padding=1), ChannelNorm(cout), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, current, future):
        """current (B,V,3,H,W) and future (B,T,V,3,H,W), both in [-1, 1] -> a list of one map (B,T,V,C,h,w)."""
        earlier = torch.cat([current[:, None], future[:, :-1]], dim=1)
        x = torch.cat([earlier, future - earlier], dim=3)  # (B, T, V, 6, H, W)
        x = F.pixel_unshuffle(x.flatten(0, 2), self.patch)  # (N, 6 patch^2, h, w)
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        return [x.unflatten(0, future.shape[:3])]
