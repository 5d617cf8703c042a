"""One denoising loop for every backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BeforeStep = Callable[[Tensor, int], Tensor]
"""(latents, step) -> latents, called before each denoising step."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A deterministic sampler: step i maps z to keep[i] * z + add[i] * prediction(z, timesteps[i]).

    Both DDIM (eps and v prediction) and the Euler step of a flow are of this form, so neither sampling
    nor inversion ever asks which model it runs.
    """

    timesteps: tuple[float, ...]
    keep: tuple[float, ...]
    add: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.timesteps)

    def advance(self, latents: Tensor, prediction: Tensor, step: int) -> Tensor:
        """One denoising step."""
        return self.keep[step] * latents + self.add[step] * prediction

    def undo_step(self, latents: Tensor, prediction: Tensor, step: int) -> Tensor:
        """Undo `advance` for a known prediction."""
        return (latents - self.add[step] * prediction) / self.keep[step]


def initial_noise(seeds: list[int], shape: tuple[int, ...], device: str = "cpu") -> Tensor:
    """Return one standard normal latent per seed, (B, *shape), drawn on the CPU from the seed alone."""
    draws = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(draws).to(device)


def sample(backbone, latents: Tensor, condition, schedule: Schedule, before_step: BeforeStep | None = None) -> Tensor:
    """Denoise latents through the whole schedule and return the final latents.

    `before_step` may move the latents before each step; steering is such a callable. Gradients are its
    own affair: the loop runs without them.
    """
    for step in range(len(schedule)):
        if before_step is not None:
            latents = before_step(latents, step)
        with torch.no_grad():
            prediction = backbone.predict(latents, schedule.timesteps[step], condition)
        latents = schedule.advance(latents, prediction, step)
    return latents
