"""From phrases to text tokens, by the tokenizer's character offsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from l2s_core.errors import UserError
from l2s_core.prompts.added_tokens import expanded
from l2s_core.prompts.grammar import Span

Tokenizer = Callable[..., Any]
"""A tokenizer of transformers: texts to token ids and, for a fast one, character offsets."""
Template = Callable[[str], str]
"""What a model reads of a prompt: the prompt, unchanged, in a text of its own."""
_PROMPT = "\0"  # stands for a prompt where a template is asked for its place


class MarkedText(Protocol):
    """A text and the character spans [start, end) of its phrases."""

    @property
    def text(self) -> str: ...

    @property
    def spans(self) -> tuple[Span, ...]: ...


@dataclass(frozen=True, kw_only=True)
class SmallLetters:
    """A prompt in small letters and without space around it, as some models read theirs."""

    text: str
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, prompt: MarkedText) -> SmallLetters:
        """Return what is read of a prompt, and where its phrases are then."""
        before = len(prompt.text) - len(prompt.text.lstrip())
        spans = tuple((start - before, end - before) for start, end in prompt.spans)
        return cls(text=small_letters(prompt.text), spans=spans)


def small_letters(text: str) -> str:
    """Return a text in small letters, without space around it."""
    return text.lower().strip()


def tokens_of_span(offsets: Sequence[Span], span: Span) -> list[int]:
    """Return the indices of the tokens that overlap the character span [start, end)."""
    start, end = span
    return [i for i, (a, b) in enumerate(offsets) if a < b and a < end and start < b]


def phrase_weights(
    tokenizer: Tokenizer,
    prompts: Sequence[MarkedText],
    length: int,
    *,
    template: Template = str,
    skipped: int = 0,
    padding: Literal["right", "left"] = "right",
    special: bool = True,
) -> Tensor:
    """Return weights_BOK (B, O, K): row o averages the tokens of object phrase o, O the most objects that a prompt has.

    Multiplying attention probabilities by it gives the mean over the phrase's tokens. A prompt with fewer
    phrases repeats its last one; one without any has weights of 0. The tokens are those of the prompt in the model's
    `template`, without the first `skipped`, which the model reads and leaves out; `padding` says on which side of
    the window of `length` tokens the model has its padding, and `special` whether the tokenizer adds tokens of its own,
    which a chat's template has. Tokens of several vectors count with all of them.
    Raises UserError when a phrase has no token inside the window, and for a template that changes a prompt.
    """
    read = [expanded(tokenizer, prompt.text, prompt.spans) for prompt in prompts]
    texts = [template(text) for text, _ in read]
    start = template(_PROMPT).find(_PROMPT)
    encoded = tokenizer(
        texts, truncation=True, max_length=skipped + length, return_offsets_mapping=True, add_special_tokens=special
    )
    weights_BOK = torch.zeros(len(prompts), max(1, *(len(p.spans) for p in prompts)), length)
    for b, (prompt, (plain, spans)) in enumerate(zip(prompts, read, strict=True)):
        text, places = texts[b], encoded["offset_mapping"][b]
        if start < 0 or not text.startswith(plain, start):
            raise UserError(f"the model's template makes {text!r} of {plain!r}; it must leave the prompt as it is")
        offsets = places[skipped:]
        shift = length - len(offsets) if padding == "left" else 0
        last = max((end for _, end in offsets), default=0)
        for o, span in enumerate(spans):
            begin, end = (start + place for place in span)
            tokens = [shift + token for token in tokens_of_span(offsets, (begin, end))]
            if not tokens or last < end:
                phrase = prompt.text[slice(*prompt.spans[o])]
                raise UserError(
                    f"the phrase {phrase!r} of {prompt.text!r} is cut off by the text window of {length} tokens; "
                    "shorten the prompt"
                )
            weights_BOK[b, o, tokens] = 1 / len(tokens)
        if prompt.spans:
            weights_BOK[b, len(prompt.spans) :] = weights_BOK[b, len(prompt.spans) - 1].clone()
    return weights_BOK
