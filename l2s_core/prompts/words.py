"""Words of any script: letters with the marks that combine with them, as in a decomposed "é" or in Devanagari."""

from __future__ import annotations

import regex

_LETTER = r"[\w\p{M}\u200c\u200d]"  # the last two join letters, and stand inside of words
TOKEN = regex.compile(rf"(?:<{_LETTER}+(?:-{_LETTER}+)*>|{_LETTER}+)(?:[-'’]{_LETTER}+)*|[^\w\s]")
"""A word, hyphens and apostrophes included, or one sign of punctuation; "<my-dog>", a token of one's own, is a word."""


def occurrences(text: str, phrase: str) -> list[tuple[int, int]]:
    """Return the character spans [start, end) where a phrase stands in a text as whole words, whatever its capitals."""
    if not phrase:
        return []
    pattern = rf"(?<!{_LETTER}){regex.escape(phrase)}(?!{_LETTER})"
    return [match.span() for match in regex.finditer(pattern, text, regex.IGNORECASE)]
