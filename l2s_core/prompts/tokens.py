"""From phrases to text tokens, by the tokenizer's character offsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from l2s_core.errors import UserError
from l2s_core.prompts.grammar import Span

Tokenizer = Callable[..., Any]
"""A tokenizer of transformers: texts to token ids and, for a fast one, character offsets."""


class MarkedText(Protocol):
    """A text and the character spans [start, end) of its phrases."""

    @property
    def text(self) -> str: ...

    @property
    def spans(self) -> tuple[Span, ...]: ...


def tokens_of_span(offsets: Sequence[Span], span: Span) -> list[int]:
    """Return the indices of the tokens that overlap the character span [start, end)."""
    start, end = span
    return [i for i, (a, b) in enumerate(offsets) if a < b and a < end and start < b]


def phrase_weights(tokenizer: Tokenizer, prompts: Sequence[MarkedText], length: int) -> Tensor:
    """Return weights_BOK (B, O, K): row o averages the tokens of object phrase o, O the most objects that a prompt has.

    Multiplying attention probabilities by it gives the mean over the phrase's tokens. A prompt with fewer
    phrases repeats its last one; one without any has weights of 0.
    Raises UserError when a phrase has no token inside the window of `length` tokens.
    """
    encoded = tokenizer([p.text for p in prompts], truncation=True, max_length=length, return_offsets_mapping=True)
    weights_BOK = torch.zeros(len(prompts), max(1, *(len(p.spans) for p in prompts)), length)
    for b, (prompt, offsets) in enumerate(zip(prompts, encoded["offset_mapping"], strict=True)):
        last = max((end for _, end in offsets), default=0)
        for o, span in enumerate(prompt.spans):
            tokens = tokens_of_span(offsets, span)
            if not tokens or last < span[1]:
                phrase = prompt.text[slice(*span)]
                raise UserError(
                    f"the phrase {phrase!r} of {prompt.text!r} is cut off by the text window of {length} tokens; "
                    "shorten the prompt"
                )
            weights_BOK[b, o, tokens] = 1 / len(tokens)
        if prompt.spans:
            weights_BOK[b, len(prompt.spans) :] = weights_BOK[b, len(prompt.spans) - 1].clone()
    return weights_BOK
