"""A deterministic sampler as numbers: what one step keeps of the latents and adds of a prediction."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
