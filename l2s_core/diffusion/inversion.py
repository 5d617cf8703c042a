"""From an image's latents back to the noise that the sampler would turn into them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from l2s_core.diffusion.condition import Condition
from l2s_core.diffusion.denoiser import Predictor
from l2s_core.diffusion.schedule import Schedule

THETA_RANGE = (-0.5, 1.0)  # of the mixing coefficient; keeps a step near the two points it mixes


@torch.no_grad()
def invert(model: Predictor, latents: Tensor, condition: Condition, schedule: Schedule, *, iterations: int) -> Tensor:
    """Return the noise z_T (same shape) whose deterministic sampling ends in `latents`.

    Fixed-point DDIM inversion (Pan et al. 2023, arXiv 2309.04907; METHOD): each step solves
    z = (z_next - add * prediction(z)) / keep with `iterations` evaluations of the denoiser. Two things
    make few evaluations go far: a step starts from the prediction the step before ended with, and from
    the second evaluation on it mixes the last two points (Anderson acceleration of depth 1, Walker &
    Ni 2011), each image with its own coefficient. The condition's guidance should be 1.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    prediction = None
    for step in reversed(range(len(schedule))):
        start = latents if prediction is None else schedule.undo_step(latents, prediction, step)

        def substitute(point: Tensor, target: Tensor = latents, step: int = step) -> Tensor:
            return schedule.undo_step(target, model.predict(point, schedule.timesteps[step], condition), step)

        solution = solve_fixed_point(substitute, start, evaluations=iterations)
        prediction = (latents - schedule.keep[step] * solution) / schedule.add[step]
        latents = solution
    return latents


def solve_fixed_point(function: Callable[[Tensor], Tensor], start: Tensor, *, evaluations: int) -> Tensor:
    """Return an approximate solution of x = function(x), rows independent of each other."""
    before = start
    image_before = function(start)
    point = image_before
    for _ in range(evaluations - 1):
        image = function(point)
        residual = image - point
        residual_before = image_before - before
        change = (residual - residual_before).flatten(1)
        theta = (residual.flatten(1) * change).sum(1) / change.square().sum(1).clamp_min(1e-12)
        theta = theta.clamp(*THETA_RANGE).view(-1, *[1] * (point.ndim - 1))
        mixed = image - theta * (image - image_before)
        before = point
        image_before = image
        point = mixed
    return point


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Return the PSNR in dB of each uint8 image (B, H, W, 3) against its reference, capped at 99."""
    mse = (images.float() - references.float()).square().flatten(1).mean(1)
    return (10 * torch.log10(255**2 / mse.clamp_min(1e-12))).clamp_max(99.0)
