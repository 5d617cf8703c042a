"""Steering alone, for a denoising loop of somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2s_core.backbones.model import DiffusersModel
from l2s_core.errors import UserError
from l2s_core.sizes import size_of, size_text
from l2s_core.steering.steering import Steering, SteeringCost


@dataclass(frozen=True)
class Steerer:
    """Moves latents before a denoising step; made by `SteeredModel.steerer` for one batch of images.

    In a loop of one's own::

        latents = steerer(latents, step)

    In a pipeline of diffusers, whose callbacks come after a step, the first call is made by hand::

        latents = steerer(noise, 0)
        pipeline(prompt, latents=latents, callback_on_step_end=steerer.on_step_end)
    """

    backbone: DiffusersModel
    steering: Steering

    def __call__(self, latents: Tensor, step: int) -> Tensor:
        """Return the latents, in the shape and type they came in, moved for the step that begins.

        They are those of the pipeline's loop: (B, C, h, w), for FLUX packed (B, P, E), before classifier-free guidance
        doubles them. Raises UserError for latents of another size of images than the model's.
        """
        expected = self.backbone.to_pipeline(torch.empty(1, *self.backbone.latent_shape, device="meta")).shape[1:]
        if latents.shape[1:] != expected:
            height, width = self.backbone.image_sides
            raise UserError(
                f"these latents are {list(latents.shape[1:])} an image, but the model's, of "
                f"{size_text(size_of(height, width))} pixels, are {list(expected)}; give the pipeline "
                f"height={height} and width={width}, or load the model with another backbone.size"
            )
        moved = self.steering(self.backbone.from_pipeline(latents), step)
        return self.backbone.to_pipeline(moved).to(latents)

    def on_step_end(self, pipeline: Any, step: int, timestep: Any, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Steer before the step that comes next: what diffusers calls `callback_on_step_end`."""
        following = step + 1
        if following >= len(self.steering.batch.schedule):
            return dict(values)
        return {**values, "latents": self(values["latents"], following)}

    @property
    def cost(self) -> SteeringCost:
        """What the steering spent, an image."""
        return self.steering.cost
