"""All the randomness of a training step, drawn in one place."""

from dataclasses import dataclass

import torch

from model.diffusion import noise_levels


@dataclass
class Noise:
    """All the randomness of one training step, drawn for the global batch and then cut to this process's share.

    R noisy chunks of actions may be drawn for each window: the head is cheap beside what it reads.
    """

    video: torch.Tensor | None  # (B, T, V, 3, H, W) standard normal; None where no video takes part
    video_sigma: torch.Tensor  # (B,)
    action: torch.Tensor  # (B, R, K, A) standard normal
    action_sigma: torch.Tensor  # (B, R)
    drop_prompt: torch.Tensor  # (B,) bool; a head that learns to act meets windows without their sentence as well
    dropout_mask: torch.Tensor  # (B, R, inputs of the head): 0 where dropout takes a number away, more than 1 elsewhere

    def part(self, index, count):
        return Noise(**{k: v if v is None else v[index::count] for k, v in vars(self).items()})


def draw_noise(config, batch_size, rng, p_sigma_max=0.0, video=True, samples=1):
    """Noise for one step. Differs: video and actions get independent levels (UWM, arXiv 2504.02792), the paper one.

    p_sigma_max: probability that a window's video is put at sigma_max, where one-pass decisions read the features
    (Differs: 0 in the paper); video=False leaves out the noise of frames, most of the work; samples: R, noisy chunks of
    actions for each window.
    """
    c, device = config, rng.device
    size = (c.video_frames, len(c.cameras), 3, c.image_size, c.image_size)

    def normal(*shape):
        return torch.randn(batch_size, *shape, generator=rng, device=device)

    video_sigma = noise_levels(normal(), c.video_sigma_mean, c.video_sigma_std, c.sigma_max)
    at_max = torch.rand(batch_size, generator=rng, device=device) < p_sigma_max
    return Noise(
        video=normal(*size) if video else None,
        video_sigma=torch.where(at_max, c.sigma_max, video_sigma),
        action=normal(samples, c.action_horizon, c.action_size),
        action_sigma=noise_levels(normal(samples), c.action_sigma_mean, c.action_sigma_std, c.sigma_max),
        drop_prompt=torch.rand(batch_size, generator=rng, device=device) < c.prompt_dropout,
        dropout_mask=(torch.rand(batch_size, samples, c.head_inputs, generator=rng, device=device) >= c.head_dropout)
        / (1 - c.head_dropout),
    )
