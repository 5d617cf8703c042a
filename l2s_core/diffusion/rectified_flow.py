"""Inversion of rectified-flow models by controlled paths (RF-Inversion, Rout et al. 2024, arXiv 2410.10792).

The path runs in sigma from 0 (image) to 1 (noise) with velocity v = noise - x0. Both directions mix the
model's velocity with the one that leads straight to a known end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

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


Times = Literal["path", "count"]


@torch.no_grad()
def controlled_invert(
    model: Predictor,
    image: Tensor,
    noise: Tensor,
    condition: Condition,
    schedule: Schedule,
    *,
    gamma: float,
    times: Times = "path",
) -> Tensor:
    """Return the noise that the controlled forward equation (paper, section 3.3) makes of image latents.

    dz/dsigma = v + gamma ((noise - z) / (1 - sigma) - v), by Euler steps through the schedule's sigmas in
    reverse. With gamma = 1 that is the straight line to `noise`, and the model is not asked at all.

    With `times` "count", as in the paper's code, the steps have the schedule's lengths from its first on, and step i
    of n takes sigma to be i / (n + 1). It then aims too low, and with gamma = 1 what is returned is no noise but
    s image + (1 - s) noise, with s the product of 1 - length_i / (1 - i / (n + 1)): 0.113 for four even steps.
    """
    if gamma == 1.0 and times == "path":
        return noise.to(image)
    latents = image
    for sigma, length in STEPS_OUT[times](schedule):
        velocity = straight = (noise - latents) / (1 - sigma)
        if gamma != 1.0:
            predicted = model.predict(latents, sigma, condition)
            velocity = predicted + gamma * (straight - predicted)
        latents = latents + length * velocity
    return latents


def _along_the_path(schedule: Schedule) -> list[tuple[float, float]]:
    """Return (sigma, length) of the steps from the image to the noise."""
    return [(sigma, after - sigma) for sigma, after in pairwise([0.0, *reversed(schedule.timesteps)])]


def _by_count(schedule: Schedule) -> list[tuple[float, float]]:
    """Return (sigma, length) of the steps as the paper's code takes them."""
    lengths = [before - after for before, after in pairwise([*schedule.timesteps, 0.0])]
    return [(number / (len(lengths) + 1), length) for number, length in enumerate(lengths)]


STEPS_OUT: dict[Times, Callable[[Schedule], list[tuple[float, float]]]] = {
    "path": _along_the_path,
    "count": _by_count,
}
