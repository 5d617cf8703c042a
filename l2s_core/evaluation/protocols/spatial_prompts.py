"""Own prompts in the form of T2I-CompBench's spatial tasks, over names that a COCO detector can find."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from l2s_core.evaluation.protocols.spatial_rules import PEOPLE, SpatialPrompt, parse_prompt, phrases_of
from l2s_core.evaluation.protocols.suites import first_prompts, require_suite, suite_triplets
from l2s_core.relations import PLANAR

ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
THINGS = (
    "bicycle",
    "car",
    "bus",
    "train",
    "boat",
    "bench",
    "backpack",
    "umbrella",
    "suitcase",
    "bottle",
    "cup",
    "bowl",
    "chair",
    "couch",
    "toilet",
    "laptop",
    "microwave",
    "refrigerator",
    "book",
    "clock",
    "vase",
)


def generate_prompts(suite: str, count: int, relations: Sequence[str] = PLANAR) -> list[SpatialPrompt]:
    """Return `count` prompts in rotation over the phrases of `relations`; `dev` and `test` share none.

    A prompt pairs a person or an animal with a thing, or a person with an animal, and always says "a", as the official
    ones do. Raises UserError for an unknown suite, or for more prompts than it has.
    """
    require_suite(suite)
    pairs = [*product(PEOPLE + ANIMALS, THINGS), *product(PEOPLE, ANIMALS)]
    triplets = suite_triplets(suite, pairs, phrases_of(relations))
    chosen = first_prompts(triplets, count, f"the {suite} suite of T2I-CompBench's form")
    return [parse_prompt(f"a {t.subject} {t.relation} a {t.object}") for t in chosen]
