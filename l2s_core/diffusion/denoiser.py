"""What sampling and inversion may ask of a text-to-image model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from l2s_core.diffusion.condition import Condition
from l2s_core.diffusion.schedule import Sampling, Schedule


class Predictor(Protocol):
    """What the denoising loop needs: a prediction at latents, a timestep and a condition."""

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The raw prediction (eps, v or velocity) at a timestep, guided if the condition says so."""
        ...


class Denoiser(Predictor, Protocol):
    """A text-to-image model as sampling and inversion know it: text and images in, predictions out."""

    fingerprint: str
    device: str

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of one image's latents."""
        ...

    @property
    def latents_dtype(self) -> torch.dtype:
        """The type of latents, between passes."""
        ...

    def encode_prompts(self, texts: list[str], *, guidance: float | None = None, negative: str = "") -> Condition:
        """Encode prompts for `predict`, with a guidance or, as inversion, capture and steering have it, without.

        `negative` is what classifier-free guidance leads away from.
        """
        ...

    def encode_images(self, images: np.ndarray) -> Tensor:
        """uint8 images (B, H, W, 3) to latents."""
        ...

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents to uint8 images (B, H, W, 3)."""
        ...

    def schedule(self, steps: int) -> Schedule:
        """The deterministic sampler of `steps` steps."""
        ...

    def sampling(self, steps: int, solver: str | None = None) -> Sampling:
        """Return `steps` steps of a solver, or of the deterministic sampler."""
        ...
