"""Prompts with phrase positions: from (subject, relation, object) to text, and from text to phrases."""

from __future__ import annotations

import re
from dataclasses import dataclass

from l2s_core.errors import UserError
from l2s_core.grammar import Span, read_prompt
from l2s_core.relations import WORDINGS, Triplet, relation_index


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

    @property
    def objects(self) -> tuple[str, str]:
        return self.triplet.subject, self.triplet.object


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


def parse_prompt(text: str) -> Prompt:
    """Read a prompt that states one relation of two objects; raises UserError for none, for several, and for what is unclear."""
    clauses = read_prompt(text).clauses
    if len(clauses) > 1:
        stated = "; ".join(f"{c.triplet.subject} {c.triplet.relation} {c.triplet.object}" for c in clauses)
        raise UserError(
            f"the prompt {text!r} states {len(clauses)} relations ({stated}), where one is allowed; leave one, "
            "e.g. 'a dog to the left of a cat'"
        )
    (clause,) = clauses
    return Prompt(text=text, triplet=clause.triplet, subject_span=clause.subject_span, object_span=clause.object_span)
