"""Tokens that textual inversion has added to a tokenizer: one of several vectors is read as a row of tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from l2s_core.prompts.grammar import Span


def expanded(tokenizer: Any, text: str, spans: Sequence[Span] = ()) -> tuple[str, tuple[Span, ...]]:
    """Return what is read of a text, "<dog> <dog>_1" for "<dog>" of two vectors, and the spans of its phrases there.

    The text is that of `maybe_convert_prompt` of diffusers' pipelines. A span [start, end) covers the whole row of a
    token that it has covered.
    """
    added = getattr(tokenizer, "added_tokens_encoder", {})
    if not any(f"{token}_1" in added for token in added):
        return text, tuple(spans)
    longest_first = sorted(added, key=len, reverse=True)
    found = list(re.finditer("|".join(map(re.escape, longest_first)), text))
    rows = [_row(added, match[0]) for match in found]

    def moved(place: int) -> int:
        before = (len(row) - len(match[0]) for match, row in zip(found, rows, strict=True) if match.end() <= place)
        return place + sum(before)

    pieces = iter(rows)
    read = re.sub("|".join(map(re.escape, longest_first)), lambda _match: next(pieces), text)
    return read, tuple((moved(start), moved(end)) for start, end in spans)


def _row(added: Any, token: str) -> str:
    """The tokens of one, with blanks between them."""
    row = [token]
    while f"{token}_{len(row)}" in added:
        row.append(f"{token}_{len(row)}")
    return " ".join(row)
