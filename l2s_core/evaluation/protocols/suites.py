"""What the protocols' own suites share: two halves that never meet, and the seeds of the noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import combinations
from typing import TypeVar

from l2s_core.errors import UserError, unknown_name
from l2s_core.evaluation.protocols.classes import COCO_CLASSES, GENEVAL_NAMES
from l2s_core.hashing import stable_fraction, stable_seed
from l2s_core.relations import PLANAR, Triplet

T = TypeVar("T")
_COCO_NAMES = {geneval: coco for coco, geneval in GENEVAL_NAMES.items()}
SUITES = ("dev", "test")


def require_suite(suite: str) -> None:
    """Raise UserError for a suite that does not exist."""
    if suite not in SUITES:
        raise unknown_name("suite", suite, SUITES)


def suite_half(suite: str, values: Sequence[T], key: Callable[[T], Sequence[object]]) -> list[T]:
    """Return the suite's half of `values`, in the order of a hash of their keys: the same in every process."""
    require_suite(suite)
    ordered = sorted(values, key=lambda value: stable_fraction("suite", *key(value)))
    half = len(ordered) // 2
    return ordered[:half] if suite == "dev" else ordered[half:]


def suite_triplets(suite: str, pairs: Sequence[tuple[str, str]], relations: Sequence[str] = PLANAR) -> list[Triplet]:
    """Return the suite's half of all triplets over `pairs`, in rotation over the relations."""
    columns = []
    for relation in relations:
        ordered = [Triplet(subject=a, relation=relation, object=b) for x, y in pairs for a, b in ((x, y), (y, x))]
        ordered.sort(key=lambda t: stable_fraction("suite", t.subject, t.relation, t.object))
        half = len(ordered) // 2
        columns.append(ordered[:half] if suite == "dev" else ordered[half:])
    return [triplet for row in zip(*columns, strict=True) for triplet in row]


def triplet_suite(triplet: Triplet) -> str:
    """Return the suite of a prompt with this relation alone, the same one in every protocol that may word it.

    Over COCO's classes, under either name, it is the half that `suite_triplets` gives it; else a hash decides.
    """
    subject, object_ = (_COCO_NAMES.get(name, name) for name in (triplet.subject, triplet.object))
    if subject in COCO_CLASSES and object_ in COCO_CLASSES:
        return "dev" if Triplet(subject=subject, relation=triplet.relation, object=object_) in _coco_dev() else "test"
    return "dev" if stable_fraction("suite", subject, triplet.relation, object_) < 0.5 else "test"


@lru_cache(maxsize=1)
def _coco_dev() -> frozenset[Triplet]:
    return frozenset(suite_triplets("dev", list(combinations(COCO_CLASSES, 2))))


def first_prompts(values: Sequence[T], count: int, what: str) -> list[T]:
    """Return the first `count` of a suite; raises UserError when it has fewer."""
    if not 1 <= count <= len(values):
        raise UserError(f"{count} prompts are asked for, but {what} has {len(values)}; allowed: 1 to {len(values)}")
    return list(values[:count])


def noise_seed(item_id: str, text: str) -> int:
    """Return the seed of an item's noise, a hash of its id and prompt: ids that name the suite never share one."""
    return stable_seed("seed", item_id, text)
