"""The parts of the networks: noise embedding, residual block, attention over space and over time.

Letters: B batch, T future frames, V cameras, C channels, H W pixels, D width, L tokens; N = B T V, frames folded
into a batch.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

ATTENTION_HEAD = 32  # width of an attention head; the width of a level that attends is a multiple of it


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, (N, C, H, W) -> the same.

    With channels_last memory the permute is free and this is one fused kernel; group norm in bf16 takes three times
    as long on a CPU, which is as long as the convolution beside it.
    """

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NoiseEmbedding(nn.Module):
    """Noise level c_noise (B,) -> (B, D): Fourier features, then a two-layer MLP."""

    def __init__(self, width, frequencies=32):
        super().__init__()
        self.register_buffer("frequency", torch.logspace(-1, 1.5, frequencies), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, c_noise):
        angle = 2 * math.pi * c_noise[:, None] * self.frequency  # (B, frequencies)
        return self.mlp(torch.cat([angle.cos(), angle.sin()], dim=1))


class ResBlock(nn.Module):
    """Residual block, modulated by an embedding: x (N, Cin, H, W), emb (N, D) -> (N, Cout, H, W).

    Norm, scale and shift by the embedding (adaptive norm, arXiv 2105.05233), SiLU, conv, SiLU, conv. The last conv
    starts at zero, so that at birth the block is the identity (or, where the width changes, a 1x1 conv).
    """

    def __init__(self, cin, cout, embed):
        super().__init__()
        self.norm = ChannelNorm(cin)
        self.modulate = nn.Linear(embed, 2 * cin)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.conv2 = zero(nn.Conv2d(cout, cout, 3, padding=1))
        self.skip = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)

    def forward(self, x, emb):
        scale, shift = self.modulate(emb)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm(x), 1 + scale)
        h = self.conv1(F.silu(h))
        return self.skip(x) + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Pre-norm multi-head self-attention with a residual: (N, L, C) -> (N, L, C). C is a multiple of ATTENTION_HEAD."""

    def __init__(self, channels):
        super().__init__()
        assert channels % ATTENTION_HEAD == 0, f"attention width {channels} is no multiple of {ATTENTION_HEAD}"
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero(nn.Linear(channels, channels))

    def forward(self, x):
        n, length, channels = x.shape
        qkv = self.qkv(self.norm(x)).view(n, length, 3, channels // ATTENTION_HEAD, ATTENTION_HEAD)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, L, head)
        if x.is_cuda:
            h = F.scaled_dot_product_attention(q, k, v)
        else:  # on a CPU and for short sequences, two plain products are two to eight times as fast
            h = (q @ k.transpose(-1, -2) / math.sqrt(ATTENTION_HEAD)).softmax(dim=-1).to(v.dtype) @ v
        return x + self.out(h.transpose(1, 2).reshape(n, length, channels))


def attend_space(attention, x, B, T, V):
    """Every position of every camera of one frame sees the others: x (N, C, H, W) -> the same, L = V H W."""
    N, C, H, W = x.shape
    x = x.view(B * T, V, C, H * W).permute(0, 1, 3, 2).reshape(B * T, V * H * W, C)
    x = attention(x)
    return x.view(N, H, W, C).permute(0, 3, 1, 2)  # channels_last again


def attend_time(attention, x, B, T, V):
    """Every frame sees the same position in the other frames: x (N, C, H, W) -> the same, L = T."""
    N, C, H, W = x.shape
    x = x.permute(0, 2, 3, 1).reshape(B, T, V * H * W, C).transpose(1, 2)  # (B, VHW, T, C)
    x = attention(x.reshape(B * V * H * W, T, C))
    x = x.view(B, V * H * W, T, C).transpose(1, 2)
    return x.reshape(N, H, W, C).permute(0, 3, 1, 2)


def zero(layer):
    """Start a layer at zero, so that the branch it ends adds nothing at first."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
