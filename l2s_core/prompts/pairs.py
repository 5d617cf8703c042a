"""The pairs of objects that a prompt, or what is true in an image, relates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from l2s_core.prompts.prompt import Phrases
from l2s_core.relations import Triplet


@dataclass(frozen=True, kw_only=True)
class RelatedPair:
    """Two objects of a prompt, their `places` among its objects, and every relation of the first to the second.

    Those are the ones that the prompt states; of a diagonal there are two.
    """

    subject: str
    object: str
    places: tuple[int, int]
    stated: tuple[str, ...]


def relations_by_pair(triplets: Iterable[Triplet]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the relations of each (subject, object), in the order in which they come."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for triplet in triplets:
        pair = (triplet.subject, triplet.object)
        found[pair] = (*found.get(pair, ()), triplet.relation)
    return found


def related_pairs(prompt: Phrases) -> list[RelatedPair]:
    """Return the pairs that a prompt relates, in its order: what steering reads of it."""
    place = prompt.objects.index
    return [
        RelatedPair(subject=subject, object=object_, places=(place(subject), place(object_)), stated=stated)
        for (subject, object_), stated in relations_by_pair(prompt.triplets).items()
    ]
