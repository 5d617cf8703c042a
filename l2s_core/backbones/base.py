"""What the rest of the core may ask of a text-to-image model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from l2s_core.attention.capture import AttentionLayer
from l2s_core.prompts import Phrases
from l2s_core.sampling import Schedule

UNGUIDED = 1.0  # classifier-free guidance up to which a prediction is the model's own for the prompt


@dataclass(frozen=True, kw_only=True)
class TextEncoding:
    """Encoded texts: one vector a token, context_BKD, and for models that want it one a text, pooled_BD."""

    context_BKD: Tensor
    pooled_BD: Tensor | None = None

    def select(self, indices: Tensor) -> TextEncoding:
        """The encoding of a subset of the batch."""
        pooled = None if self.pooled_BD is None else self.pooled_BD[indices]
        return TextEncoding(context_BKD=self.context_BKD[indices], pooled_BD=pooled)

    def after(self, other: TextEncoding) -> TextEncoding:
        """Both encodings as one batch, `other` first."""
        pooled = None if self.pooled_BD is None else torch.cat([other.pooled_BD, self.pooled_BD])
        return TextEncoding(context_BKD=torch.cat([other.context_BKD, self.context_BKD]), pooled_BD=pooled)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Encoded prompts, the guidance, None for none at all, and where that is classifier-free the empty prompt's encoding."""

    text: TextEncoding
    negative: TextEncoding | None = None
    guidance: float | None = None

    def unguided(self) -> Condition:
        """The same prompts without guidance: what capture and steering run on."""
        return Condition(text=self.text)

    def select(self, indices: Tensor) -> Condition:
        """The condition of a subset of the batch."""
        negative = None if self.negative is None else self.negative.select(indices)
        return Condition(text=self.text.select(indices), negative=negative, guidance=self.guidance)


def guided(predict: Callable[[Tensor, TextEncoding], Tensor], latents: Tensor, condition: Condition) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022) in one pass over both halves; a plain pass without a negative."""
    if condition.negative is None:
        return predict(latents, condition.text)
    negative, positive = predict(torch.cat([latents, latents]), condition.text.after(condition.negative)).chunk(2)
    return negative + condition.guidance * (positive - negative)


class Backbone(Protocol):
    """A text-to-image model: text and images in, predictions and attention layers out."""

    fingerprint: str
    device: str
    latent_shape: tuple[int, ...]

    def encode_prompts(self, texts: list[str], *, guidance: float | None = None) -> Condition:
        """Encode prompts for `predict`, with a guidance or, as inversion, capture and steering have it, without."""

    def phrase_weights(self, prompts: list[Phrases]) -> Tensor:
        """weights_BOK of the prompts' object phrases over this model's text tokens."""

    def encode_images(self, images: np.ndarray) -> Tensor:
        """uint8 images (B, H, W, 3) to latents."""

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents to uint8 images (B, H, W, 3)."""

    def schedule(self, steps: int) -> Schedule:
        """The deterministic sampler of `steps` steps."""

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The model's raw prediction at a timestep, guided if the condition says so."""

    def layers(self, softmax: str = "text") -> list[AttentionLayer]:
        """Every layer in which image tokens attend to text, in the order the forward pass reaches them.

        Softmax over the text keys alone ("text"), or over text and image keys where a model has both in
        one row ("joint").
        """
