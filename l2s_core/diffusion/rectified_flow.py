"""Inversion of rectified-flow models by controlled paths (RF-Inversion, Rout et al. 2024, arXiv 2410.10792).

The path runs in sigma from 0 (image) to 1 (noise) with velocity v = noise - x0. Both directions mix the
model's velocity with the one that leads straight to a known end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from l2s_core.diffusion.condition import Condition
from l2s_core.diffusion.denoiser import Predictor
from l2s_core.diffusion.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class RFInversionControl:
    """The controlled reverse equation (paper, section 3.4): v + eta ((z - image) / sigma - v).

    It pulls sampling towards `image`, latents (B, C, h, w), with a strength `eta` in [0, 1], at the noise levels
    `sigmas` of a schedule; elsewhere it leaves the velocity v alone.
    """

    image: Tensor
    eta: float
    sigmas: tuple[float, ...]

    def velocity(self, latents: Tensor, predicted: Tensor, sigma: float) -> Tensor:
        """The velocity to follow where the model's is `predicted`."""
        if sigma not in self.sigmas:
            return predicted
        return predicted + self.eta * ((latents - self.image) / sigma - predicted)

    def select(self, rows: slice | list[int], device: str = "cpu") -> RFInversionControl:
        """The control of a subset of the images, on a device."""
        return replace(self, image=self.image[rows].to(device))

    def over(self, model: Predictor) -> ControlledModel:
        """The model under this control."""
        return ControlledModel(model=model, control=self)


@dataclass(frozen=True, kw_only=True)
class ControlledModel:
    """A model under a control; stands in for the model in the denoising loop.

    With eta = 1 a controlled step needs no evaluation of the model, and the last step ends in the image itself.
    """

    model: Predictor
    control: RFInversionControl

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The velocity to follow at the noise level `timestep`."""
        if timestep in self.control.sigmas and self.control.eta == 1.0:
            return (latents - self.control.image) / timestep
        return self.control.velocity(latents, self.model.predict(latents, timestep, condition), timestep)


@torch.no_grad()
def controlled_invert(
    model: Predictor, image: Tensor, noise: Tensor, condition: Condition, schedule: Schedule, *, gamma: float
) -> Tensor:
    """Return the noise that the controlled forward equation (paper, section 3.3) makes of image latents.

    dz/dsigma = v + gamma ((noise - z) / (1 - sigma) - v), by Euler steps through the schedule's sigmas in
    reverse. With gamma = 1 that is the straight line to `noise`, and the model is not asked at all.
    """
    if gamma == 1.0:
        return noise.to(image)
    sigmas = [0.0, *reversed(schedule.timesteps)]
    latents = image
    for sigma, after in pairwise(sigmas):
        velocity = model.predict(latents, sigma, condition)
        straight = (noise - latents) / (1 - sigma)
        latents = latents + (after - sigma) * (velocity + gamma * (straight - velocity))
    return latents
