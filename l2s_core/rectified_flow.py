"""Inversion of rectified-flow models by controlled paths (RF-Inversion, Rout et al. 2024, arXiv 2410.10792).

The path runs in sigma from 0 (image) to 1 (noise) with velocity v = noise - x0. Both directions mix the
model's velocity with the one that leads straight to a known end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_core.sampling import Schedule


@dataclass(frozen=True, kw_only=True)
class Control:
    """The pull towards an image in sampling: v + eta ((z - image) / sigma - v), in steps start <= step < stop.

    The controlled reverse equation (paper, section 3.4); with eta = 1 the last controlled step, if it is the last
    of all, ends in the image itself.
    """

    image: Tensor
    eta: float
    start: int = 0
    stop: int

    def active(self, step: int) -> bool:
        return self.eta > 0 and self.start <= step < self.stop

    def adjust(self, latents: Tensor, prediction: Tensor, sigma: float, step: int) -> Tensor:
        """Return the velocity to follow at `step`, whose noise level is `sigma`."""
        if not self.active(step):
            return prediction
        return prediction + self.eta * ((latents - self.image) / sigma - prediction)

    def select(self, indices) -> Control:
        """The control of a part of the batch."""
        return Control(image=self.image[indices], eta=self.eta, start=self.start, stop=self.stop)


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
