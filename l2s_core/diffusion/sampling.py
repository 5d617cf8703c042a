"""One denoising loop for every backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from l2s_core.diffusion.condition import Condition, Predicted
from l2s_core.diffusion.denoiser import Predictor
from l2s_core.diffusion.schedule import Sampling

Observer = Callable[[Tensor, int], Tensor]
"""(latents, step) -> latents, called before each denoising step: it may watch the latents, or move them."""


@runtime_checkable
class Predicting(Protocol):
    """An observer whose own passes over the latents that it returned last gave predictions, which the step can use."""

    @property
    def predicted(self) -> Predicted | None:
        """Those predictions, if there are any."""
        ...


def initial_noise(
    seeds: Sequence[int], shape: tuple[int, ...], device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return one standard normal latent per seed, (B, *shape), drawn in float32 on the CPU from the seed alone."""
    draws = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(draws).to(device, dtype)


def sample(
    model: Predictor,
    latents: Tensor,
    condition: Condition,
    schedule: Sampling,
    observers: Sequence[Observer] = (),
) -> Tensor:
    """Denoise latents through the whole schedule and return the final latents.

    `observers` are called before each step, one after the other; each gets the latents that the one before it returned.
    Steering is one. Gradients are their own affair: the loop runs without them. What an observer has predicted of the
    latents, and no later one has moved, is not predicted again.
    """
    schedule = schedule.begin(latents)
    for step in range(len(schedule)):
        predicted = None
        for observe in observers:
            seen = observe(latents, step)
            if isinstance(observe, Predicting):
                predicted = observe.predicted
            elif seen is not latents:
                predicted = None
            latents = seen
        with torch.no_grad():
            prediction = model.predict(latents, schedule.timesteps[step], replace(condition, predicted=predicted))
        latents = schedule.advance(latents, prediction, step)
    return latents
