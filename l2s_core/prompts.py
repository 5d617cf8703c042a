"""Prompts with phrase positions: from (subject, relation, object) to text, and from text to phrases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from l2s_core.errors import UserError
from l2s_core.relations import RELATIONS, WORDINGS, relation_index

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Triplet:
    """A directed relation between two named objects."""

    subject: str
    relation: str
    object: str


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text, the relation it states, and the character spans [start, end) of its two object phrases."""

    text: str
    triplet: Triplet
    subject_span: Span
    object_span: Span

    @property
    def spans(self) -> tuple[Span, Span]:
        return self.subject_span, self.object_span


def with_article(phrase: str) -> str:
    """Return the phrase behind "a" or "an"."""
    return ("an " if phrase[0].lower() in "aeiou" else "a ") + phrase


def prompt_for(triplet: Triplet, *, prefix: str = "", wording: int = 0) -> Prompt:
    """Write the prompt "{prefix}a {subject} {relation} a {object}" and note where its phrases stand."""
    relation_index(triplet.relation)
    words = WORDINGS[triplet.relation]
    head = prefix + with_article(triplet.subject)
    text = f"{head} {words[wording % len(words)]} {with_article(triplet.object)}"
    subject_end, object_end = len(head), len(text)
    return Prompt(
        text=text,
        triplet=triplet,
        subject_span=(subject_end - len(triplet.subject), subject_end),
        object_span=(object_end - len(triplet.object), object_end),
    )


def find_phrase(text: str, phrase: str, *, start: int = 0) -> Span:
    """Return the first whole-word occurrence of a phrase at or after `start`; raises UserError if absent."""
    match = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE).search(text, start)
    if phrase == "" or match is None:
        raise UserError(f"the phrase {phrase!r} is not in the prompt {text!r}; name objects as the prompt does")
    return match.span()


_FILLER = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:an?\s+)?(?:photo|picture|image)\s+of\s+", re.IGNORECASE)
_PATTERNS: Sequence[tuple[str, re.Pattern[str]]] = tuple(
    (relation, re.compile(rf"\s+(?:is\s+)?{re.escape(words)}\s+", re.IGNORECASE))
    for relation in RELATIONS
    for words in sorted(WORDINGS[relation], key=len, reverse=True)
)


def parse_prompt(text: str) -> Prompt:
    """Read "[a photo of] a A <relation> a B"; raises UserError when no relation or phrase can be read."""
    found = [(match, relation) for relation, pattern in _PATTERNS for match in [pattern.search(text)] if match]
    if not found:
        allowed = ", ".join(sorted({w for words in WORDINGS.values() for w in words}))
        raise UserError(f"no relation in the prompt {text!r}; allowed: {allowed}; e.g. 'a dog to the left of a cat'")
    match, relation = min(found, key=lambda item: (item[0].start(), -len(item[0].group())))
    subject = _bare(text[: match.start()])
    object_ = _bare(text[match.end() :])
    if not subject or not object_:
        raise UserError(f"the prompt {text!r} names no object on one side of {relation!r}; e.g. 'a dog {relation} a cat'")
    return Prompt(
        text=text,
        triplet=Triplet(subject=subject, relation=relation, object=object_),
        subject_span=_last_phrase(text, subject, match.start()),
        object_span=find_phrase(text, object_, start=match.end()),
    )


def _bare(part: str) -> str:
    part = part.strip().strip(".,;!")
    return _FILLER.sub("", _PREFIX.sub("", part).strip()).strip()


def _last_phrase(text: str, phrase: str, end: int) -> Span:
    start = text.rindex(phrase, 0, end)
    return start, start + len(phrase)
