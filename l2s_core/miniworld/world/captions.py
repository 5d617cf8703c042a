"""Captions as a web crawl has them: most name objects only, a few name a relation, and those are often wrong.

This is what makes the small model good at objects and bad at relations, as large models trained on
crawled captions are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from pydantic import Field

from l2s_core.config import Section
from l2s_core.miniworld.world.scenes import Layout
from l2s_core.miniworld.world.sprites import OBJECTS
from l2s_core.miniworld.world.streams import Stream
from l2s_core.prompts.chains import chains_of
from l2s_core.prompts.prompt import prompt_for, with_article
from l2s_core.relations import PLANAR, Triplet

RELATION_SHARE = 0.3  # captions of two-object scenes that name a relation
RANDOM_SHARE = 0.9  # of relation words, how many are drawn at random
PREFIXES = ("a photo of ", "")
CHAINS = {count: chains_of(count) for count in (3, 4, 5)}  # forms of captions that state relations, by object count
LANGUAGE_COUNTS = (0.1, 0.75, 0.15)  # sentences of one, two and three objects
LANGUAGE_CHAINED = 0.5  # sentences of three objects and more that state relations, in a language that has them


class CaptionStyle(Section):
    """How captions name relations.

    `related` is the share of captions of two objects that state one, `chained` that of captions of more ("a dog above a
    cat left of a cup"; where it is 0, these are lists), and `random` the share of relation words that are drawn at
    random, true or not. `only_a` is the share of captions with "a orange" for "an orange", as prompts of several
    relations have it.
    """

    related: float = Field(default=RELATION_SHARE, ge=0, le=1)
    chained: float = Field(default=0.0, ge=0, le=1)
    random: float = Field(default=RANDOM_SHARE, ge=0, le=1)
    only_a: float = Field(default=0.0, ge=0, le=1)


CRAWL = CaptionStyle()


def _object_list(names: list[str], rng: np.random.Generator) -> str:
    names = [with_article(name) for name in names]
    if len(names) == 2 and rng.random() < 0.2:
        return f"{names[0]} next to {names[1]}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def web_caption(layout: Layout, rng: np.random.Generator, style: CaptionStyle = CRAWL) -> str:
    """Caption a scene the way the crawl does."""
    return _articles(_web_caption(layout, rng, style), rng, style.only_a)


def _articles(text: str, rng: np.random.Generator, only_a: float) -> str:
    return re.sub(r"\ban ", "a ", text) if only_a and rng.random() < only_a else text


def _web_caption(layout: Layout, rng: np.random.Generator, style: CaptionStyle) -> str:
    order = rng.permutation(len(layout.placements))
    names = [layout.placements[i].name for i in order]
    prefix = PREFIXES[int(rng.random() < 0.4)]
    if len(names) == 2 and rng.random() < style.related:
        return _stated(layout, order, prefix, rng, style)
    if len(names) in CHAINS and style.chained and rng.random() < style.chained:
        return prefix + _chained(names, rng, lambda a, b: _stated(layout, order[[a, b]], "", rng, style))
    return prefix + _object_list(names, rng)


def _chained(names: Sequence[str], rng: np.random.Generator, state: Callable[[int, int], str]) -> str:
    """Return "a A above a B and a C left of a D"; `state(i, j)` relates two of the objects by their places."""
    forms = CHAINS[len(names)]
    parts = []
    first = 0
    for length in forms[rng.integers(len(forms)) if len(forms) > 1 else 0]:
        links = [state(i, i + 1) for i in range(first, first + length - 1)]
        parts.append(
            links[0]
            + "".join(link.removeprefix(with_article(names[first + k])) for k, link in enumerate(links[1:], start=1))
        )
        first += length
    return " and ".join(parts)


def _stated(layout: Layout, pair: np.ndarray, prefix: str, rng: np.random.Generator, style: CaptionStyle) -> str:
    """Return "a dog above a cat" for two objects of a scene, with a relation that need not be true."""
    subject, other = (int(i) for i in pair)
    true = sorted(layout.relations(subject, other))
    if rng.random() < style.random or not true:
        relation: str = PLANAR[rng.integers(len(PLANAR))]
    else:
        relation = true[rng.integers(len(true))]
    triplet = Triplet(subject=layout.placements[subject].name, relation=relation, object=layout.placements[other].name)
    return prompt_for(triplet, prefix=prefix, wording=int(rng.random() < 0.3)).text


def language_caption(rng: np.random.Generator, counts: Sequence[float] = LANGUAGE_COUNTS, only_a: float = 0.0) -> str:
    """One sentence of the language itself (no scene): what the text encoder is pretrained on.

    `counts` are the shares of sentences of one object, two, three …; where there are more than three, half of those
    with three and more state relations. `only_a` as in `CaptionStyle`.
    """
    return _articles(_language_caption(rng, counts), rng, only_a)


def _language_caption(rng: np.random.Generator, counts: Sequence[float]) -> str:
    count = int(rng.choice(np.arange(1, len(counts) + 1), p=counts))
    names = [OBJECTS[i] for i in rng.choice(len(OBJECTS), size=count, replace=False)]
    prefix = PREFIXES[int(rng.random() < 0.4)]
    if count == 2 and rng.random() < 0.6:
        return prefix + _any_relation(names[0], names[1], rng)
    if len(counts) > len(LANGUAGE_COUNTS) and count in CHAINS and rng.random() < LANGUAGE_CHAINED:
        return prefix + _chained(names, rng, lambda a, b: _any_relation(names[a], names[b], rng))
    return prefix + _object_list(names, rng)


def _any_relation(subject: str, object_: str, rng: np.random.Generator) -> str:
    triplet = Triplet(subject=subject, relation=PLANAR[rng.integers(len(PLANAR))], object=object_)
    return prompt_for(triplet, wording=int(rng.random() < 0.3)).text


def corpus(seed: int, size: int) -> Iterator[str]:
    """Yield `size` sentences of the language."""
    rng = np.random.default_rng((seed, int(Stream.CORPUS)))
    for _ in range(size):
        yield language_caption(rng)
