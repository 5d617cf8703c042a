"""Sentences that chain several relations: "a A above a B and a C to the left of a D"."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from l2s_core.errors import UserError
from l2s_core.prompts.grammar import Span
from l2s_core.prompts.pairs import relations_by_pair
from l2s_core.prompts.prompt import SeveralPrompt
from l2s_core.relations import RELATIONS, WORDINGS, Triplet, label_index

FORMS: dict[tuple[int, int], tuple[int, ...]] = {
    (2, 1): (2,),
    (3, 2): (3,),
    (4, 2): (2, 2),
    (4, 3): (4,),
    (5, 3): (3, 2),
}
"""(objects, relations) -> lengths of the chains that "and" joins: (3, 2) for "a A r a B r a C and a D r a E"."""


def chains_of(objects: int) -> tuple[tuple[int, ...], ...]:
    """Return the forms that a number of objects has, as lengths of chains."""
    return tuple(lengths for (count, _), lengths in FORMS.items() if count == objects)


def links(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs that chains relate, as places among their objects: each object and the next one of its chain."""
    pairs = []
    first = 0
    for length in lengths:
        pairs += [(place, place + 1) for place in range(first, first + length - 1)]
        first += length
    return pairs


def chained_prompt(
    triplets: Sequence[Triplet], *, prefix: str = "", article: Callable[[str], str] = lambda _: "a"
) -> SeveralPrompt:
    """Write the sentence of triplets and note where its phrases stand.

    A triplet whose subject is the object before it goes on with the chain; another begins a new one, after "and".
    Several relations of one pair are a diagonal: "a A above and to the left of a B". `article` gives that before a
    name. Raises UserError for no relation, an unknown one, and for an object that would stand in two places.
    """
    if not triplets:
        raise UserError("a sentence of no relations cannot be written; give one or more")
    text = prefix
    spans: dict[str, Span] = {}

    def name_it(name: str) -> None:
        nonlocal text
        if name in spans:
            raise UserError(f"{name!r} would stand in two places of {text!r}; allowed: chains of different objects")
        text += f"{article(name)} {name}"
        spans[name] = (len(text) - len(name), len(text))

    last = None
    for (subject, object_), relations in relations_by_pair(triplets).items():
        if subject != last:
            text += " and " if spans else ""
            name_it(subject)
        for relation in relations:
            label_index(relation, RELATIONS)
        text += f" {' and '.join(WORDINGS[relation][0] for relation in relations)} "
        name_it(object_)
        last = object_
    return SeveralPrompt(text=text, triplets=tuple(triplets), objects=tuple(spans), spans=tuple(spans.values()))
