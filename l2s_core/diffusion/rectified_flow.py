"""Inversion of rectified-flow models by controlled paths (RF-Inversion, Rout et al. 2024, arXiv 2410.10792).

The path runs in sigma from 0 (image) to 1 (noise) with velocity v = noise - x0. Both directions mix the
model's velocity with the one that leads straight to a known end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_core.diffusion.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Pull:
    """How strongly, eta in [0, 1], and in which steps, start <= step < stop, sampling is pulled to an image."""

    eta: float
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Control:
    """The controlled reverse equation (paper, section 3.4): v + eta ((z - image) / sigma - v).

    Stands in for a backbone in the sampling loop. With eta = 1 a step needs no evaluation of the model,
    and in the last step it ends in the image itself. `sigmas` are the noise levels it acts at.
    """

    backbone: object
    image: Tensor
    eta: float
    sigmas: tuple[float, ...]

    def predict(self, latents: Tensor, sigma: float, condition) -> Tensor:
        """The velocity to follow at the noise level `sigma`."""
        if sigma in self.sigmas and self.eta == 1.0:
            return (latents - self.image) / sigma
        return self.adjust(latents, self.backbone.predict(latents, sigma, condition), sigma)

    def adjust(self, latents: Tensor, prediction: Tensor, sigma: float) -> Tensor:
        """The velocity to follow, for a model's prediction that is there already."""
        if sigma not in self.sigmas:
            return prediction
        return prediction + self.eta * ((latents - self.image) / sigma - prediction)


def control_by(pull: Pull, backbone, image: Tensor, schedule: Schedule) -> Control:
    """Return the control that a pull means along a schedule."""
    return Control(backbone=backbone, image=image, eta=pull.eta, sigmas=schedule.timesteps[pull.start : pull.stop])


@torch.no_grad()
def controlled_invert(backbone, image: Tensor, noise: Tensor, condition, schedule: Schedule, *, gamma: float) -> Tensor:
    """Return the noise that the controlled forward equation (paper, section 3.3) makes of image latents.

    dz/dsigma = v + gamma ((noise - z) / (1 - sigma) - v), by Euler steps through the schedule's sigmas in
    reverse. With gamma = 1 that is the straight line to `noise`, and the model is not asked at all.
    """
    if gamma == 1.0:
        return noise.to(image)
    sigmas = [0.0, *reversed(schedule.timesteps)]
    latents = image
    for sigma, after in zip(sigmas, sigmas[1:]):
        velocity = backbone.predict(latents, sigma, condition)
        straight = (noise - latents) / (1 - sigma)
        latents = latents + (after - sigma) * (velocity + gamma * (straight - velocity))
    return latents
