"""From an image's latents back to the noise that the sampler would turn into them."""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_core.sampling import Schedule


@torch.no_grad()
def invert(backbone, latents: Tensor, condition, schedule: Schedule, *, iterations: int) -> Tensor:
    """Return the noise z_T (same shape) whose deterministic sampling ends in `latents`.

    Fixed-point DDIM inversion (Pan et al. 2023, arXiv 2309.04907; METHOD): each step solves
    z = (z_next - add * prediction(z)) / keep by `iterations` substitutions, starting from z_next. One
    iteration is plain DDIM inversion. The condition's guidance should be 1.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    for step in reversed(range(len(schedule))):
        target, estimate = latents, latents
        for _ in range(iterations):
            prediction = backbone.predict(estimate, schedule.timesteps[step], condition)
            estimate = schedule.retreat(target, prediction, step)
        latents = estimate
    return latents


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Return the PSNR in dB of each uint8 image (B, H, W, 3) against its reference, capped at 99."""
    mse = (images.float() - references.float()).square().flatten(1).mean(1)
    return (10 * torch.log10(255**2 / mse.clamp_min(1e-12))).clamp_max(99.0)
