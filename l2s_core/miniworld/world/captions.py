"""Captions as a web crawl has them: most name objects only, a few name a relation, and those are often wrong.

This is what makes the small model good at objects and bad at relations, as large models trained on
crawled captions are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from l2s_core.miniworld.world.scenes import Layout
from l2s_core.miniworld.world.sprites import OBJECTS
from l2s_core.miniworld.world.streams import Stream
from l2s_core.prompts.prompt import prompt_for, with_article
from l2s_core.relations import RELATIONS, Triplet

RELATION_SHARE = 0.3  # captions of two-object scenes that name a relation
RANDOM_SHARE = 0.9  # of relation words, how many are drawn at random
PREFIXES = ("a photo of ", "")


def _object_list(names: list[str], rng: np.random.Generator) -> str:
    names = [with_article(name) for name in names]
    if len(names) == 2 and rng.random() < 0.2:
        return f"{names[0]} next to {names[1]}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def web_caption(layout: Layout, rng: np.random.Generator, chained: float = 0.0) -> str:
    """Caption a scene the way the crawl does.

    `chained` is the share of three-object scenes whose caption states two relations, "a dog above a cat left of a
    cup"; where it is 0, such a caption is a list.
    """
    order = rng.permutation(len(layout.placements))
    names = [layout.placements[i].name for i in order]
    prefix = PREFIXES[int(rng.random() < 0.4)]
    if len(names) == 2 and rng.random() < RELATION_SHARE:
        return _stated(layout, order, prefix, rng)
    if len(names) == 3 and chained and rng.random() < chained:
        first = _stated(layout, order[:2], prefix, rng)
        return first + _stated(layout, order[1:], "", rng).removeprefix(with_article(names[1]))
    return prefix + _object_list(names, rng)


def _stated(layout: Layout, pair: np.ndarray, prefix: str, rng: np.random.Generator) -> str:
    """Return "a dog above a cat" for two objects of a scene, with a relation that need not be true."""
    subject, other = (int(i) for i in pair)
    true = sorted(layout.relations(subject, other))
    if rng.random() < RANDOM_SHARE or not true:
        relation: str = RELATIONS[rng.integers(len(RELATIONS))]
    else:
        relation = true[rng.integers(len(true))]
    triplet = Triplet(subject=layout.placements[subject].name, relation=relation, object=layout.placements[other].name)
    return prompt_for(triplet, prefix=prefix, wording=int(rng.random() < 0.3)).text


def language_caption(rng: np.random.Generator) -> str:
    """One sentence of the language itself (no scene): what the text encoder is pretrained on."""
    count = int(rng.choice([1, 2, 3], p=[0.1, 0.75, 0.15]))
    names = [OBJECTS[i] for i in rng.choice(len(OBJECTS), size=count, replace=False)]
    prefix = PREFIXES[int(rng.random() < 0.4)]
    if count == 2 and rng.random() < 0.6:
        relation = RELATIONS[rng.integers(len(RELATIONS))]
        triplet = Triplet(subject=names[0], relation=relation, object=names[1])
        return prompt_for(triplet, prefix=prefix, wording=int(rng.random() < 0.3)).text
    return prefix + _object_list(names, rng)


def corpus(seed: int, size: int) -> Iterator[str]:
    """Yield `size` sentences of the language."""
    rng = np.random.default_rng((seed, int(Stream.CORPUS)))
    for _ in range(size):
        yield language_caption(rng)
