"""All the randomness of a training step, drawn in one place."""

from dataclasses import dataclass

import torch

from model.diffusion import noise_levels
from training.device import rank_and_world


@dataclass
class Noise:
    """All the randomness of one training step; R noise samples of the actions for each window, the head being cheap."""

    video: torch.Tensor | None  # (B, T, V, 3, H, W) standard normal; None where no video takes part
    video_sigma: torch.Tensor  # (B,)
    action: torch.Tensor  # (B, R, K, A) standard normal
    action_sigma: torch.Tensor  # (B, R)
    drop_prompt: torch.Tensor  # (B,) bool; a head that learns to act meets windows without their prompt as well
    dropout: torch.Tensor  # (B, R, inputs of the head), as the head draws it


def draw_noise(config, head, batch, rng, video=True, samples=1):
    """Noise for one step of a batch. Differs: video and actions get independent noise levels (UWM, arXiv 2504.02792),
    the paper has one for both.

    config: a videopolicy.Config; head: draws its own dropout; video=False leaves out the noise of frames, most of the
    work; samples: R. Of several processes each draws for the whole batch and keeps its share, so that their number
    changes nothing.
    """
    c, device, (rank, world) = config, rng.device, rank_and_world()
    B = len(batch.prompts) * world

    def normal(*shape):
        return torch.randn(B, *shape, generator=rng, device=device)

    video_sigma = noise_levels(normal(), c.video_sigma_mean, c.video_sigma_std, c.sigma_max)
    at_max = torch.rand(B, generator=rng, device=device) < c.p_sigma_max
    drawn = {
        "video": normal(c.video_frames, len(c.cameras), 3, c.image_size, c.image_size) if video else None,
        "video_sigma": torch.where(at_max, c.sigma_max, video_sigma),
        "action": normal(samples, c.action_horizon, c.action_size),
        "action_sigma": noise_levels(normal(samples), c.action_sigma_mean, c.action_sigma_std, c.sigma_max),
        "drop_prompt": torch.rand(B, generator=rng, device=device) < c.prompt_dropout,
        "dropout": head.draw_dropout(B, samples, rng),
    }
    return Noise(**{k: v if v is None else v[rank::world] for k, v in drawn.items()})
