"""What went wrong: failures counted by kind, what steering broke and repaired, and which failures are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from l2s_core.config import MAIN, PLAIN
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.protocols.verdict import CORRECT, FailureKind

KINDS = tuple(FailureKind)
SHOWN = 16


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How many images went from right to wrong (broken) and from wrong to right (repaired)."""

    broken: int
    repaired: int


@dataclass(frozen=True, kw_only=True)
class ShownFailure:
    """A failure that a report shows; `right_plain` says that the plain image of the same noise is right."""

    item_id: str
    prompt: str
    kind: FailureKind | None
    reason: str
    right_plain: bool


@dataclass(frozen=True, kw_only=True)
class FailuresSummary:
    """Images counted by method and by kind of failure, what became of the plain ones by method, and what is shown."""

    kinds: Mapping[str, Mapping[str, int]]
    changed: Mapping[str, Changes]
    shown: tuple[ShownFailure, ...]


def failure_kind(image: JudgedImage) -> FailureKind | None:
    """Return the kind that an image is counted under, None without a failure.

    Of several failures it is the first in the order of KINDS.
    """
    kinds = {failure.kind for failure in image.verdict.failures}
    return next((kind for kind in KINDS if kind in kinds), None)


def failures_summary(verdicts: Mapping[str, Sequence[JudgedImage]]) -> FailuresSummary:
    """Return what went wrong; shown are failures of the run's own steering."""
    plain = {image.item_id: image.correct for image in verdicts[PLAIN]}
    return FailuresSummary(
        kinds={method: count_kinds(images) for method, images in verdicts.items()},
        changed={method: count_changes(plain, images) for method, images in verdicts.items() if method != PLAIN},
        shown=tuple(_shown(image, plain) for image in choose_failures(verdicts[MAIN])),
    )


def _shown(image: JudgedImage, plain: Mapping[str, bool]) -> ShownFailure:
    return ShownFailure(
        item_id=image.item_id,
        prompt=image.prompt,
        kind=failure_kind(image),
        reason=image.verdict.reason,
        right_plain=plain[image.item_id],
    )


def count_kinds(images: Sequence[JudgedImage]) -> dict[str, int]:
    """Return how many images have each kind of failure, and how many are "correct"; every image counts once."""
    counts = Counter(map(failure_kind, images))
    return {CORRECT: counts[None], **{kind.value: counts[kind] for kind in KINDS}}


def count_changes(plain: Mapping[str, bool], images: Sequence[JudgedImage]) -> Changes:
    """Compare a method's images with the plain ones, which are given by whether they are right."""
    changes = Counter((plain[image.item_id], image.correct) for image in images)
    return Changes(broken=changes[True, False], repaired=changes[False, True])


def choose_failures(images: Sequence[JudgedImage], count: int = SHOWN) -> list[JudgedImage]:
    """Return the failures to show, none picked by its look: the first of each kind in turn, in the benchmark's order.

    So every kind has an equal share of the `count`, and what one cannot fill goes to the others. They come kind by
    kind.
    """
    by_kind: dict[FailureKind, list[JudgedImage]] = {kind: [] for kind in KINDS}
    for image in images:
        kind = failure_kind(image)
        if kind is not None:
            by_kind[kind].append(image)
    in_turn = [image for image in chain.from_iterable(zip_longest(*by_kind.values())) if image is not None]
    shown = {image.item_id for image in in_turn[:count]}
    return [image for kind in KINDS for image in by_kind[kind] if image.item_id in shown]
