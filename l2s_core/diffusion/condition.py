"""Encoded prompts, and classifier-free guidance between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

UNGUIDED = 1.0  # classifier-free guidance up to which a prediction is the model's own for the prompt


@dataclass(frozen=True, kw_only=True)
class TextEncoding:
    """Encoded texts: one vector a token, context_BKD, and for models that want it one a text, pooled_BD.

    mask_BK is true of the tokens that a model attends to; None where it attends to all. `beside` has what a model is
    given beside each text, by name: images, one row a text.
    """

    context_BKD: Tensor
    pooled_BD: Tensor | None = None
    mask_BK: Tensor | None = None
    beside: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def pooled(self) -> Tensor:
        """pooled_BD, for models that want it; raises ValueError where it was not encoded."""
        if self.pooled_BD is None:
            raise ValueError("these texts were encoded without one vector a text")
        return self.pooled_BD

    def select(self, indices: Tensor) -> TextEncoding:
        """The encoding of a subset of the batch."""
        pooled, mask = (None if part is None else part[indices] for part in (self.pooled_BD, self.mask_BK))
        beside = {name: rows[indices] for name, rows in self.beside.items()}
        return TextEncoding(context_BKD=self.context_BKD[indices], pooled_BD=pooled, mask_BK=mask, beside=beside)

    def after(self, other: TextEncoding) -> TextEncoding:
        """Both encodings as one batch, `other` first; the shorter texts are padded, where they have a mask."""
        words = max(self.context_BKD.shape[1], other.context_BKD.shape[1])
        first, second = other._padded(words), self._padded(words)
        return TextEncoding(
            context_BKD=torch.cat([first.context_BKD, second.context_BKD]),
            pooled_BD=_joined(first.pooled_BD, second.pooled_BD),
            mask_BK=_joined(first.mask_BK, second.mask_BK),
            beside={name: torch.cat([rows, second.beside[name]]) for name, rows in first.beside.items()},
        )

    def _padded(self, words: int) -> TextEncoding:
        """The same texts with masked padding at their ends, `words` tokens in all."""
        more = words - self.context_BKD.shape[1]
        if not more or self.mask_BK is None:
            return self
        return replace(
            self, context_BKD=pad(self.context_BKD, (0, 0, 0, more)), mask_BK=pad(self.mask_BK, (0, more), value=False)
        )


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Predictions (N, C, h, w) for the prompts alone of a batch's `rows` (N), which a pass over its latents gave."""

    rows: Tensor
    prediction: Tensor

    def missing(self, count: int) -> Tensor:
        """Return the rows of a batch of `count` that are not among these."""
        missing = torch.ones(count, dtype=torch.bool, device=self.rows.device)
        missing[self.rows] = False
        return missing.nonzero()[:, 0]

    def completed(self, others: Tensor) -> Tensor:
        """Return the predictions of the whole batch; `others` are those of the missing rows."""
        count = len(self.rows) + len(others)
        whole = self.prediction.new_empty(count, *self.prediction.shape[1:])
        whole[self.rows], whole[self.missing(count)] = self.prediction, others.to(whole)
        return whole


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Encoded prompts and the guidance, None for none; classifier-free guidance leads away from `negative`.

    What is `predicted` already, `guided` does not ask the model for again.
    """

    text: TextEncoding
    negative: TextEncoding | None = None
    guidance: float | None = None
    predicted: Predicted | None = None

    def unguided(self, *, embedded: float | None = None) -> Condition:
        """The same prompts without classifier-free guidance: what capture and steering run on.

        `embedded` is the guidance that a model has as an input, None for none.
        """
        return Condition(text=self.text, guidance=embedded)

    def select(self, indices: Tensor) -> Condition:
        """The condition of a subset of the batch."""
        negative = None if self.negative is None else self.negative.select(indices)
        return Condition(text=self.text.select(indices), negative=negative, guidance=self.guidance)


def guided(
    predict: Callable[[Tensor, TextEncoding], Tensor],
    latents: Tensor,
    condition: Condition,
    *,
    rescale: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022) in one pass over both halves; a plain pass without a negative.

    Of images whose prediction for the prompt alone is `condition.predicted`, the pass has the other half alone.
    `rescale` makes what is returned of the guided prediction and the one for the prompt alone.
    """
    known = condition.predicted
    asked, text = latents, condition.text
    if known is not None:
        missing = known.missing(len(latents))
        asked, text = latents[missing], text.select(missing)
    if condition.negative is None or condition.guidance is None:
        positive = predict(asked, text) if len(asked) else asked
        return positive if known is None else known.completed(positive)
    both = predict(torch.cat([latents, asked]), text.after(condition.negative))
    negative, positive = both[: len(latents)], both[len(latents) :]
    if known is not None:
        positive = known.completed(positive)
    prediction = negative + condition.guidance * (positive - negative)
    return prediction if rescale is None else rescale(prediction, positive)
