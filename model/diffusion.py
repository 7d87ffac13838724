"""Diffusion in the notation of EDM (Karras et al. 2022, arXiv 2206.00364), for data y of about unit variance.

    x = y + sigma * n,  n ~ N(0, I)                         a noisy sample
    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)       the denoiser, eq. 7;  F is the network
    dx / dsigma = (x - D(x; sigma)) / sigma                 the probability-flow ODE, eqs. 1 and 3 with sigma(t) = t

Eq. 7 itself stands in videopolicy.py, once for the video and once for the actions (`denoise_video`,
`denoise_actions`). The functions here know nothing of networks, videos or robots.

Flow matching is the same process in other units: x_t = (1 - t) y + t n is x / (1 + sigma) at t = sigma / (1 + sigma),
logit-normal t are log-normal sigma, and Euler steps in t are those of `sample` at the same levels. Its network,
F = n - y, is one more parameterization here: c_in = c_skip = 1 / (1 + sigma), c_out = -sigma / (1 + sigma), and the
loss's weight 1 / c_out^2. (Not tried; t = 1 is an infinite sigma, see add_noise.)
"""

import math

import torch


def append_dims(sigma, x):
    """View sigma (B,) as (B, 1, 1, ...) so that it multiplies x (B, ...); any numbers, one for each x[i]."""
    return sigma.view(-1, *[1] * (x.ndim - 1))


def noise_levels(normal, mean, std, sigma_max):
    """ln sigma ~ N(mean, std^2) from standard normal draws (B,), cut off at sigma_max.

    The tail beyond sigma_max is moved onto it rather than redrawn: one-pass decisions read the network at
    exactly sigma_max, so that level gets extra training weight.
    """
    return (mean + std * normal).exp().clamp(max=sigma_max)


def add_noise(y, sigma, noise, no_signal_from=math.inf):
    """y + sigma n for y (B, ...), sigma (B,); from no_signal_from on, sigma n only (zero terminal SNR, Lin et al.,
    arXiv 2305.08891).

    Sampling starts from pure noise. If training keeps y at sigma 20, the network learns to find it there: noise
    averages out over the thousands of pixels of an arm. When the policy acts, there is no y in the input.
    Differs: the paper keeps y at every level.
    """
    return append_dims((sigma < no_signal_from).to(y.dtype), y) * y + append_dims(sigma, y) * noise


def precondition(sigma, parameterization, x):
    """(c_in, c_skip, c_out, c_noise) of EDM table 1 at noise levels sigma (B,) > 0, with sigma_data = 1. The first
    three are shaped to multiply x (B, ...), c_noise is (B,).

    "clean": F is the clean sample itself, D = F.
    "velocity": F is (sigma y - n) / sqrt(1 + sigma^2), the v of Salimans & Ho (arXiv 2202.00512) up to sign.
    """
    c_noise, sigma = sigma.log() / 4, append_dims(sigma, x)
    c_in = (1 + sigma**2).rsqrt()
    if parameterization == "clean":
        return c_in, torch.zeros_like(sigma), torch.ones_like(sigma), c_noise
    if parameterization == "velocity":
        return c_in, 1 / (1 + sigma**2), sigma * c_in, c_noise
    raise ValueError(f"parameterization {parameterization!r} is neither clean nor velocity")


def loss_weight(sigma, parameterization):
    """lambda(sigma) on |D - y|^2: for "velocity" EDM's 1 / c_out^2 = 1 + 1 / sigma^2, the error of v itself ("SNR + 1",
    Salimans & Ho, section 4); for "clean" the same, capped at 5.

    The cap keeps nearly clean samples, where D only has to copy, from taking over; min-SNR (arXiv 2303.09556) caps the
    SNR at 5 for the same reason.
    """
    weight = 1 + sigma**-2
    return weight.clamp(max=5.0) if parameterization == "clean" else weight


def schedule(steps, sigma_min, sigma_max, rho=7.0):
    """Noise levels (steps,) from sigma_max down to sigma_min, EDM eq. 5. One step means sigma_max alone."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return ((high + ramp * (low - high)) ** rho).float()


def sample(denoiser, noise, sigmas, zero_terminal_snr=False):
    """Follow the ODE from pure noise by Euler steps; the last one, to sigma 0, ends on D itself.

    denoiser(x, sigma (B,)) -> (D, extra); noise (B, ...) ~ N(0, I); sigmas (S,) falling: S calls of the denoiser.
    Returns (D, extra) of the last one; extra is whatever else the network says.
    zero_terminal_snr: the first x is noise without any of y, so the first step keeps that noise, smaller.
    """
    x = sigmas[0] * noise
    for i, sigma in enumerate(sigmas):
        denoised, extra = denoiser(x, sigma.expand(x.shape[0]))
        if i + 1 < len(sigmas):
            infinite = i == 0 and zero_terminal_snr
            x = denoised + (sigmas[i + 1] * noise if infinite else (sigmas[i + 1] / sigma) * (x - denoised))
    return denoised, extra
