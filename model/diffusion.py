"""Diffusion in the notation of EDM (Karras et al. 2022, arXiv 2206.00364), for data y with standard deviation 1.

    x = y + sigma * n,  n ~ N(0, I)                         a noisy sample
    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)       the denoiser, eq. 7;  F is the network
    dx / dsigma = (x - D(x; sigma)) / sigma                 the probability-flow ODE, eq. 3

The functions here denoise tensors by a callable. They know nothing of networks, videos or robots;
video and actions both go through them, each with noise levels of its own.
"""

import math

import torch


def append_dims(sigma, x):
    """View sigma (B,) as (B, 1, 1, ...) so that it multiplies x (B, ...); any numbers, one for each x[i]."""
    return sigma.view(-1, *[1] * (x.ndim - 1))


def noise_levels(normal, mean, std, sigma_max):
    """ln sigma ~ N(mean, std^2) from standard normal draws (B,), cut off at sigma_max.

    The tail beyond sigma_max is moved onto it rather than redrawn: one-pass decisions read the network at
    exactly sigma_max, so that level deserves a lump of the training.
    """
    return (mean + std * normal).exp().clamp(max=sigma_max)


def add_noise(y, sigma, noise, no_signal_from=math.inf):
    """y + sigma n for y (B, ...), sigma (B,); from no_signal_from on, sigma n alone (zero terminal SNR, Lin et al.,
    arXiv 2305.08891).

    Sampling starts from noise alone. A network that is not trained on that learns to find y in the noise even at sigma
    20, since an arm covers thousands of numbers whose mean has little noise; when it acts there is nothing to be found.
    Differs: the paper keeps y at every level.
    """
    return append_dims((sigma < no_signal_from).to(y.dtype), y) * y + append_dims(sigma, y) * noise


def precondition(sigma, prediction):
    """(c_in, c_skip, c_out, c_noise) at noise level sigma, for unit-variance data; sigma_data = 1 in EDM table 1.

    prediction "clean": F is the clean sample itself, D = F.
    prediction "velocity": F is (sigma y - n) / sqrt(1 + sigma^2), the v of Salimans & Ho (arXiv 2202.00512) up to sign.
    """
    c_in = (1 + sigma**2).rsqrt()
    c_noise = sigma.log() / 4
    if prediction == "clean":
        return c_in, torch.zeros_like(sigma), torch.ones_like(sigma), c_noise
    return c_in, 1 / (1 + sigma**2), sigma * c_in, c_noise


def denoise(network, x, sigma, prediction):
    """D(x; sigma), EDM eq. 7. network(c_in x, c_noise) -> (F, extra); returns (D, extra).

    x (B, ...), sigma (B,) > 0. The combination is done in float32 whatever the network computes in.
    """
    c_in, c_skip, c_out, c_noise = precondition(sigma, prediction)
    F, extra = network(append_dims(c_in, x) * x, c_noise)
    return append_dims(c_skip, x) * x + append_dims(c_out, x) * F.float(), extra


def loss_weight(sigma, prediction):
    """lambda(sigma) on |D - y|^2: EDM's 1 / c_out^2 for "velocity"; for "clean", 1 + 1 / sigma^2 capped at 5.

    Both are the velocity-space error (Salimans & Ho, section 4: "SNR + 1"); the cap keeps nearly clean samples, where
    D only has to copy, from taking over (min-SNR, arXiv 2303.09556, eq. 7).
    """
    weight = 1 + sigma**-2
    return weight if prediction == "velocity" else weight.clamp(max=5.0)


def schedule(steps, sigma_min, sigma_max, rho=7.0):
    """Noise levels (steps,) from sigma_max down to sigma_min, EDM eq. 5. One step means sigma_max alone."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return ((high + ramp * (low - high)) ** rho).float()


def sample(denoiser, noise, sigmas, zero_terminal_snr=False):
    """Follow the ODE from pure noise by Euler steps and end on the last denoised estimate.

    denoiser(x, sigma (B,)) -> (D, extra); noise (B, ...) ~ N(0, I); sigmas (S,) falling. S calls of the denoiser:
    S - 1 Euler steps (EDM eq. 3) and a last D at the lowest level. Returns (D, extra) of that last call.
    zero_terminal_snr: the first x has no signal, as at an infinite sigma, so that all of it is noise.
    """
    x = sigmas[0] * noise
    for i, sigma in enumerate(sigmas):
        denoised, extra = denoiser(x, sigma.expand(x.shape[0]))
        if i + 1 < len(sigmas):
            infinite = i == 0 and zero_terminal_snr
            x = denoised + (sigmas[i + 1] * noise if infinite else (sigmas[i + 1] / sigma) * (x - denoised))
    return denoised, extra
