"""What the rest of the core may ask of a text-to-image model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from l2s_core.attention.capture import AttentionLayer
from l2s_core.prompts import Prompt
from l2s_core.sampling import Schedule


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Encoded prompts: context_BKD, and for guidance other than 1 the context of the empty prompt."""

    context_BKD: Tensor
    negative_BKD: Tensor | None = None
    guidance: float = 1.0

    def unguided(self) -> Condition:
        """The same prompts without guidance: what capture and steering run on."""
        return Condition(context_BKD=self.context_BKD)

    def select(self, indices: Tensor) -> Condition:
        """The condition of a subset of the batch."""
        negative = None if self.negative_BKD is None else self.negative_BKD[indices]
        return Condition(context_BKD=self.context_BKD[indices], negative_BKD=negative, guidance=self.guidance)


class Backbone(Protocol):
    """A text-to-image model: text and images in, predictions and attention layers out."""

    fingerprint: str
    device: str
    latent_shape: tuple[int, ...]

    def encode_prompts(self, texts: list[str], *, guidance: float = 1.0) -> Condition:
        """Encode prompts for `predict`."""

    def phrase_weights(self, prompts: list[Prompt]) -> Tensor:
        """weights_BOK of the prompts' object phrases over this model's text tokens."""

    def encode_images(self, images: np.ndarray) -> Tensor:
        """uint8 images (B, H, W, 3) to latents."""

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents to uint8 images (B, H, W, 3)."""

    def schedule(self, steps: int) -> Schedule:
        """The deterministic sampler of `steps` steps."""

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The model's raw prediction at a timestep, guided if the condition says so."""

    def layers(self) -> list[AttentionLayer]:
        """Every cross-attention layer, in the order the forward pass reaches them."""
