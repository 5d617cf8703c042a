"""The closed set of spatial relations and GenEval's geometric rule for them."""

from __future__ import annotations

import numpy as np

from l2s_core.errors import unknown_name

RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
OPPOSITE: dict[str, str] = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
# How each relation is worded in prompts; the first wording is the canonical one.
WORDINGS: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above",),
    "below": ("below",),
}
POSITION_THRESHOLD = 0.1  # share of the summed box sizes by which each offset is shrunk (GenEval)
DIRECTION_THRESHOLD = 0.5  # a relation holds where the unit offset passes this value (GenEval)


def relation_index(name: str) -> int:
    """Return the label index of a relation name; raises UserError for an unknown one."""
    if name not in RELATIONS:
        raise unknown_name("relation", name, RELATIONS)
    return RELATIONS.index(name)


def relation_named(words: str) -> str | None:
    """Return the relation that one of its wordings names, or None for words that name none of the four."""
    return next((name for name, wordings in WORDINGS.items() if words.strip().lower() in (name, *wordings)), None)


def relations_between(box_a, box_b) -> frozenset[str]:
    """Return every relation that box A has to box B by GenEval's rule.

    Boxes are (x0, y0, x1, y1) in pixels, y growing downwards. The centre offset is shrunk on each
    axis by 0.1 x (sum of the two sizes), clipped at 0, and divided by the norm of the raw offset; a
    relation holds where that value passes 0.5 (GenEval, arXiv 2310.11513, position task). A diagonal
    arrangement may satisfy two relations, a strongly overlapping one none.
    """
    a, b = np.asarray(box_a, dtype=float), np.asarray(box_b, dtype=float)
    offset = (a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2
    sizes = (a[2:] - a[:2]) + (b[2:] - b[:2])
    shrunk = np.sign(offset) * np.maximum(np.abs(offset) - POSITION_THRESHOLD * sizes, 0)
    norm = float(np.linalg.norm(offset))
    if norm == 0:
        return frozenset()
    dx, dy = shrunk / norm
    held = set()
    if dx < -DIRECTION_THRESHOLD:
        held.add("left of")
    if dx > DIRECTION_THRESHOLD:
        held.add("right of")
    if dy < -DIRECTION_THRESHOLD:
        held.add("above")
    if dy > DIRECTION_THRESHOLD:
        held.add("below")
    return frozenset(held)
