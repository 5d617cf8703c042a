"""Encoded prompts, and classifier-free guidance between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

UNGUIDED = 1.0  # classifier-free guidance up to which a prediction is the model's own for the prompt


@dataclass(frozen=True, kw_only=True)
class TextEncoding:
    """Encoded texts: one vector a token, context_BKD, and for models that want it one a text, pooled_BD."""

    context_BKD: Tensor
    pooled_BD: Tensor | None = None

    @property
    def pooled(self) -> Tensor:
        """pooled_BD, for models that want it; raises ValueError where it was not encoded."""
        if self.pooled_BD is None:
            raise ValueError("these texts were encoded without one vector a text")
        return self.pooled_BD

    def select(self, indices: Tensor) -> TextEncoding:
        """The encoding of a subset of the batch."""
        pooled = None if self.pooled_BD is None else self.pooled_BD[indices]
        return TextEncoding(context_BKD=self.context_BKD[indices], pooled_BD=pooled)

    def after(self, other: TextEncoding) -> TextEncoding:
        """Both encodings as one batch, `other` first."""
        context_BKD = torch.cat([other.context_BKD, self.context_BKD])
        if self.pooled_BD is None or other.pooled_BD is None:
            return TextEncoding(context_BKD=context_BKD)
        return TextEncoding(context_BKD=context_BKD, pooled_BD=torch.cat([other.pooled_BD, self.pooled_BD]))


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Encoded prompts and the guidance, None for none; classifier-free guidance leads away from `negative`."""

    text: TextEncoding
    negative: TextEncoding | None = None
    guidance: float | None = None

    def unguided(self, *, embedded: float | None = None) -> Condition:
        """The same prompts without classifier-free guidance: what capture and steering run on.

        `embedded` is the guidance that a model has as an input, None for none.
        """
        return Condition(text=self.text, guidance=embedded)

    def select(self, indices: Tensor) -> Condition:
        """The condition of a subset of the batch."""
        negative = None if self.negative is None else self.negative.select(indices)
        return Condition(text=self.text.select(indices), negative=negative, guidance=self.guidance)


def guided(predict: Callable[[Tensor, TextEncoding], Tensor], latents: Tensor, condition: Condition) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022) in one pass over both halves; a plain pass without a negative."""
    if condition.negative is None or condition.guidance is None:
        return predict(latents, condition.text)
    negative, positive = predict(torch.cat([latents, latents]), condition.text.after(condition.negative)).chunk(2)
    return negative + condition.guidance * (positive - negative)
