"""Prompts with phrase positions: from relations to text, and from text to phrases."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from l2s_core.errors import UserError
from l2s_core.prompts.grammar import Clause, Span, read_prompt
from l2s_core.prompts.words import occurrences
from l2s_core.relations import ATTRIBUTE, WORDINGS, Triplet, Wording, label_index

PHOTO_PREFIX = "a photo of "  # GenEval's wording


class Phrases(Protocol):
    """A text, its objects and the character span [start, end) of each, and the relations it states between them.

    The word of an attribute is an object here, too: something whose attention can be read.
    """

    @property
    def text(self) -> str: ...

    @property
    def objects(self) -> tuple[str, ...]: ...

    @property
    def spans(self) -> tuple[Span, ...]: ...

    @property
    def triplets(self) -> tuple[Triplet, ...]: ...


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

    @property
    def triplets(self) -> tuple[Triplet]:
        return (self.triplet,)


@dataclass(frozen=True, kw_only=True)
class SeveralPrompt:
    """A text with any number of relations, its objects in order of mention, and their spans.

    A span [start, end) counts characters.

    An object has one name and one place; relations may share it ("a A left of a B above a C"). Without relations
    there is nothing to read off the phrases, and `spans` may be empty. A relation that is stated twice is one.
    """

    text: str
    triplets: tuple[Triplet, ...]
    objects: tuple[str, ...]
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "triplets", tuple(dict.fromkeys(self.triplets)))


def depicted(prompt: Phrases) -> tuple[str, ...]:
    """Return what an image of a prompt shows: its objects without the words that are attributes of one."""
    attributes = {t.subject for t in prompt.triplets if t.relation == ATTRIBUTE}
    return tuple(name for name in prompt.objects if name not in attributes)


def with_article(phrase: str) -> str:
    """Return the phrase behind "a" or "an"."""
    return f"{Wording.PLAIN.article(phrase)} {phrase}"


def prompt_for(
    triplet: Triplet,
    *,
    prefix: str = "",
    wording: int = 0,
    written: Wording = Wording.PLAIN,
    of_pair: bool = False,
) -> Prompt:
    """Write the prompt of a triplet and note where its phrases stand.

    It reads "{prefix}a {subject} {relation} a {object}", or "{prefix}a {subject} {object}" for an attribute; with
    `of_pair`, "{prefix}a {subject} is a {object}" for two objects that the relation "is" is said of. `wording` is the
    number of the relation's wording, `written` says which articles and capitals there are.
    """
    label_index(triplet.relation)
    head = f"{prefix}{written.article(triplet.subject)} {triplet.subject}"
    rest = triplet.object
    if triplet.relation != ATTRIBUTE or of_pair:
        words = WORDINGS.get(triplet.relation, (ATTRIBUTE,))
        rest = f"{words[wording % len(words)]} {written.article(triplet.object)} {triplet.object}"
    text = written.sentence(f"{head} {rest}")
    subject_end = len(head)
    object_end = len(text)
    return Prompt(
        text=text,
        triplet=triplet,
        subject_span=(subject_end - len(triplet.subject), subject_end),
        object_span=(object_end - len(triplet.object), object_end),
    )


def phrase_spans(text: str, names: Collection[str]) -> dict[str, Span]:
    """Return the span of every name in order of mention.

    Longer names are found first, so that "bear" is not found in "teddy bear".

    Raises UserError for a name that stands there not at all, or more than once.
    """
    left = text
    spans: dict[str, Span] = {}
    for name in sorted(set(names), key=lambda name: (-len(name), name)):
        matches = occurrences(left, name)
        if len(matches) != 1:
            raise UserError(f"the prompt {text!r} names {name!r} {len(matches)} times; allowed: once, for one object")
        ((start, end),) = matches
        spans[name] = (start, end)
        left = left[:start] + "\0" * (end - start) + left[end:]
    return dict(sorted(spans.items(), key=lambda item: item[1]))


def parse_prompt(text: str) -> Prompt:
    """Read a prompt that states one relation of two objects.

    Raises UserError for none, for several, and for what is unclear.
    """
    stated_once = {clause.triplet: clause for clause in reversed(read_prompt(text).clauses)}
    clauses = list(stated_once.values())[::-1]
    if len(clauses) > 1:
        stated = "; ".join(f"{c.triplet.subject} {c.triplet.relation} {c.triplet.object}" for c in clauses)
        raise UserError(
            f"the prompt {text!r} states {len(clauses)} relations ({stated}), where one is allowed; leave one, "
            "e.g. 'a dog to the left of a cat'"
        )
    (clause,) = clauses
    return Prompt(text=text, triplet=clause.triplet, subject_span=clause.subject_span, object_span=clause.object_span)


def parse_several(text: str, attributes: Collection[str] = ()) -> SeveralPrompt:
    """Read a prompt with one relation or more.

    An object that is named again keeps its first place. Names are in small letters.

    With `attributes`, "a white dog" states that "white" is "dog", if "white" is among them; else it names one object.
    Raises UserError as the grammar does, for an object that is related to itself, and for an attribute's word that
    stands in two places: one phrase cannot be two.
    """
    clauses = [_in_small_letters(clause) for clause in read_prompt(text, attributes).clauses]
    spans: dict[str, Span] = {}
    for triplet in (clause.triplet for clause in clauses):
        if triplet.subject == triplet.object:
            raise UserError(
                f"the prompt {text!r} relates {triplet.subject!r} to itself; allowed: objects of different names"
            )
    for word in (c.triplet.subject for c in clauses if c.triplet.relation == ATTRIBUTE):
        places = {c.subject_span for c in clauses if c.triplet.subject == word} | {
            c.object_span for c in clauses if c.triplet.object == word
        }
        if len(places) > 1:
            raise UserError(
                f"the prompt {text!r} has the attribute {word!r} in {len(places)} places; allowed: once, for one object"
            )
    for clause in clauses:
        for name, span in ((clause.triplet.subject, clause.subject_span), (clause.triplet.object, clause.object_span)):
            spans[name] = min(span, spans.get(name, span))
    spans = dict(sorted(spans.items(), key=lambda item: item[1]))
    return SeveralPrompt(
        text=text, triplets=tuple(c.triplet for c in clauses), objects=tuple(spans), spans=tuple(spans.values())
    )


def renamed(prompt: SeveralPrompt, words: Mapping[str, str]) -> SeveralPrompt:
    """Return a prompt whose objects have other names: each of `words`, in small letters, is another in them.

    The text and the spans stay. Raises UserError where two objects would have one name.
    """

    def name_of(name: str) -> str:
        return " ".join(words.get(word, word) for word in name.split())

    objects = tuple(map(name_of, prompt.objects))
    if len(set(objects)) < len(objects):
        raise UserError(
            f"the prompt {prompt.text!r} has two objects that are called {max(objects, key=objects.count)!r} alike; "
            "name another object"
        )
    triplets = (replace(t, subject=name_of(t.subject), object=name_of(t.object)) for t in prompt.triplets)
    return replace(prompt, objects=objects, triplets=tuple(triplets))


def _in_small_letters(clause: Clause) -> Clause:
    named = clause.triplet
    return replace(clause, triplet=replace(named, subject=named.subject.lower(), object=named.object.lower()))
