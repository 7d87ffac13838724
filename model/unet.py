r"""The video U-Net: noisy future frames, the clean current frame of each camera, a noise level and a prompt in; a
prediction per future frame, and the feature map of every level, out.

          noisy (B,T,V,3,H,W)  current (B,V,3,H,W)
                     \            /
                      pixel-unshuffle
                            |
        level 0   blocks ---+----------------- skip ---------------+--- blocks ---> prediction
                         \ down                              up /  '---> features
        level 1           blocks ------------- skip -------- blocks
                         + attention                     + attention '---> features
                               \ down                  up /
        level 2                 blocks + attention ------ '---> features

Frames meet each other only in temporal attention; cameras only in spatial attention. Convolutions see one frame.
Differs: the paper fine-tunes Stable Video Diffusion (arXiv 2311.15127); this one starts from nothing. The features are
three maps of the way up, with time kept; the paper pools five over time.

Another generator, a transformer say, takes its place as one row of `GENERATORS` in videopolicy.py. What is used of it:
forward(noisy, current, c_noise, prompt) -> (prediction, maps), and `feature_shapes`. There is no positional encoding
over space: attention knows the place of a pixel by the zero padding of the convolutions alone.
"""

import torch
import torch.nn.functional as F
from torch import nn

from model.layers import Attention, ChannelNorm, NoiseEmbedding, ResBlock, attend_space, attend_time, zero


class Level(nn.Module):
    """Residual blocks at one resolution and, at the coarse ones, attention over space and then over time."""

    def __init__(self, cin, cout, blocks, attention, embed):
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(cin if i == 0 else cout, cout, embed) for i in range(blocks))
        self.space = Attention(cout) if attention else None
        self.time = Attention(cout) if attention else None

    def forward(self, x, emb, B, T, V):
        for block in self.blocks:
            x = block(x, emb)
        if self.space is not None:
            x = attend_space(self.space, x, B, T, V)
            x = attend_time(self.time, x, B, T, V)
        return x


class VideoUNet(nn.Module):
    """F(noisy, current, c_noise, prompt) -> (prediction, features).

    frames T, views V; image_size H = W; widths: channels of each level, finest first; blocks: residual blocks of each;
    attention: for each level, whether it attends; patch: the pixel-unshuffle factor, so level 0 has H / patch rows.
    """

    def __init__(
        self, *, frames, views, image_size, patch, widths, blocks, attention, embed, prompt_width, out_channels
    ):  # fmt: skip
        super().__init__()
        self.patch = patch
        pixels = 3 * patch**2
        self.noise = NoiseEmbedding(embed)
        self.prompt = nn.Linear(prompt_width, embed)
        self.frame = nn.Parameter(torch.randn(frames, 1, embed) * 0.5)
        self.view = nn.Parameter(torch.randn(views, embed) * 0.5)

        self.stem = nn.Conv2d(2 * pixels, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for i in range(len(widths) - 1):
            self.down.append(Level(widths[i], widths[i], blocks, attention[i], embed))
            self.shrink.append(nn.Conv2d(widths[i], widths[i + 1], 3, stride=2, padding=1))
        self.middle = Level(widths[-1], widths[-1], blocks, attention[-1], embed)
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()
        for i in reversed(range(len(widths) - 1)):
            self.grow.append(nn.Conv2d(widths[i + 1], widths[i], 1))
            self.up.append(Level(2 * widths[i], widths[i], blocks, attention[i], embed))
        self.norm = ChannelNorm(widths[0])
        self.out = zero(nn.Conv2d(widths[0], out_channels * patch**2, 3, padding=1))

        # (T, V, C, h, w) of one feature map per level of the way up, coarsest first: what the action head reads.
        sides = [image_size // patch // 2**level for level in range(len(widths))]
        self.feature_shapes = [(frames, views, C, h, h) for C, h in reversed(list(zip(widths, sides, strict=True)))]
        self.to(memory_format=torch.channels_last)

    def forward(self, noisy, current, c_noise, prompt):
        """One pass -> (prediction (B,T,V,out_channels,H,W), features [(B,T,V,C,h,w), ...] coarsest first).

        noisy (B,T,V,3,H,W), current (B,V,3,H,W), c_noise (B,), prompt (B,D).
        """
        B, T, V = noisy.shape[:3]
        assert current.shape == (B, V, *noisy.shape[3:]), f"noisy {tuple(noisy.shape)}, current {tuple(current.shape)}"
        emb = self.noise(c_noise) + self.prompt(prompt)  # (B, D)
        emb = emb[:, None, None] + self.frame + self.view  # (B, T, V, D)
        emb = F.silu(emb).flatten(0, 2)  # (N, D)

        x = torch.cat([noisy, current[:, None].expand_as(noisy)], dim=3)  # (B, T, V, 6, H, W)
        x = F.pixel_unshuffle(x.flatten(0, 2), self.patch)  # (N, 6 patch^2, h, w)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))

        skips, features = [], []
        for level, shrink in zip(self.down, self.shrink, strict=True):
            x = level(x, emb, B, T, V)
            skips.append(x)
            x = shrink(x)
        x = self.middle(x, emb, B, T, V)
        features.append(x)
        for level, grow in zip(self.up, self.grow, strict=True):
            x = F.interpolate(grow(x), scale_factor=2, mode="nearest")
            x = level(torch.cat([x, skips.pop()], dim=1), emb, B, T, V)
            features.append(x)
        y = F.pixel_shuffle(self.out(F.silu(self.norm(x))), self.patch)  # (N, out, H, W)
        return y.unflatten(0, (B, T, V)), [f.unflatten(0, (B, T, V)) for f in features]
