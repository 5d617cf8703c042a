"""What went wrong: failures counted by kind, what steering broke and repaired, and which failures are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from l2s_core.config import MAIN, PLAIN
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.protocols.verdict import CORRECT, FailureKind

KINDS = tuple(FailureKind)
SHOWN = 16


def failure_kind(image: JudgedImage) -> FailureKind | None:
    """Return the kind that an image is counted under, None without a failure.

    Of several failures it is the first in the order of KINDS.
    """
    kinds = {failure.kind for failure in image.verdict.failures}
    return next((kind for kind in KINDS if kind in kinds), None)


def failures_summary(verdicts: Mapping[str, Sequence[JudgedImage]]) -> dict[str, Any]:
    """Return, JSON-able, {"kinds", "changed"} by method and what is "shown".

    Shown are failures of the run's own steering.
    """
    plain = {image.item_id: image.correct for image in verdicts[PLAIN]}
    return {
        "kinds": {method: count_kinds(images) for method, images in verdicts.items()},
        "changed": {method: count_changes(plain, images) for method, images in verdicts.items() if method != PLAIN},
        "shown": [
            {
                "item_id": image.item_id,
                "prompt": image.prompt,
                "kind": failure_kind(image),
                "reason": image.verdict.reason,
                "right_plain": plain[image.item_id],
            }
            for image in choose_failures(verdicts[MAIN])
        ],
    }


def count_kinds(images: Sequence[JudgedImage]) -> dict[str, int]:
    """Return how many images have each kind of failure, and how many are "correct"; every image counts once."""
    counts = Counter(map(failure_kind, images))
    return {CORRECT: counts[None], **{kind.value: counts[kind] for kind in KINDS}}


def count_changes(plain: Mapping[str, bool], images: Sequence[JudgedImage]) -> dict[str, int]:
    """Return how many images went from right to wrong (broken) and from wrong to right (repaired).

    They are compared with the plain images.
    """
    changes = Counter((plain[image.item_id], image.correct) for image in images)
    return {"broken": changes[True, False], "repaired": changes[False, True]}


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
