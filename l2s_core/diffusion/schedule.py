"""Samplers; a deterministic one as numbers: what one step keeps of the latents and adds of a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Sampling(Protocol):
    """The steps from noise to an image, taken in their order."""

    @property
    def timesteps(self) -> tuple[float, ...]:
        """Where the model is asked, noisy end first."""
        ...

    def __len__(self) -> int: ...

    def begin(self, latents: Tensor) -> Sampling:
        """Return the sampler of the one trajectory that begins with `latents` (B, C, h, w) of noise."""
        ...

    def advance(self, latents: Tensor, prediction: Tensor, step: int) -> Tensor:
        """One denoising step."""
        ...


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A deterministic sampler: step i maps z to keep[i] * z + add[i] * prediction(z, timesteps[i]).

    Both DDIM (eps and v prediction) and the Euler step of a flow are of this form, so neither sampling
    nor inversion ever asks which model it runs. A step is computed in float32 at least, and rounded to the latents'
    type.
    """

    timesteps: tuple[float, ...]
    keep: tuple[float, ...]
    add: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.timesteps)

    def begin(self, _latents: Tensor) -> Schedule:
        """Return itself: every trajectory has the same steps."""
        return self

    def advance(self, latents: Tensor, prediction: Tensor, step: int) -> Tensor:
        """One denoising step."""
        exact, predicted = exactly(latents), exactly(prediction)
        return (self.keep[step] * exact + self.add[step] * predicted).to(latents.dtype)

    def undo_step(self, latents: Tensor, prediction: Tensor, step: int) -> Tensor:
        """Undo `advance` for a known prediction."""
        exact, predicted = exactly(latents), exactly(prediction)
        return ((exact - self.add[step] * predicted) / self.keep[step]).to(latents.dtype)


def exactly(values: Tensor) -> Tensor:
    """Return values in float32, or in float64 where they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
