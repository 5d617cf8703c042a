"""The closed set of spatial relations, their wordings and GenEval's geometric rule for them.

Beside them stands "is", the relation of an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from l2s_core.errors import unknown_name

Relation = Literal["left of", "right of", "above", "below"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
ATTRIBUTE = "is"  # subject: an attribute's word, object: what has it
LABELS: tuple[str, ...] = (
    *RELATIONS,
    ATTRIBUTE,
)  # what classifiers tell apart: all of them, or without attributes the first four
OPPOSITE: dict[str, str] = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
DIAGONALS: tuple[tuple[str, str], ...] = tuple(product(("above", "below"), ("left of", "right of")))
"""The relations of two objects that stand diagonally."""
# How each relation is worded in prompts; the first wording is the canonical one.
WORDINGS: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above",),
    "below": ("below",),
}
# Wordings that are read but never written.
_SIDE_FORMS = (
    "on the {} of",
    "at the {} of",
    "on the {} side of",
    "to the {} side of",
    "on the {}-hand side of",
    "on the {} hand side of",
    "{} from",
    "to the {} from",
)
ALSO_READ: dict[str, tuple[str, ...]] = {
    "left of": tuple(form.format("left") for form in _SIDE_FORMS),
    "right of": tuple(form.format("right") for form in _SIDE_FORMS),
    "above": ("over", "on top of", "on the top of", "at the top of", "atop"),
    "below": ("under", "beneath", "underneath", "on the bottom of", "at the bottom of"),
}
_CORNERS = {"upper": "above", "top": "above", "above": "above", "lower": "below", "bottom": "below", "below": "below"}
_HYPHEN_ALONE = ("above", "below")  # "above-left of"
POSITION_THRESHOLD = 0.1  # share of the summed box sizes by which each offset is shrunk (GenEval)
MIN_OFFSET = 1e-3  # pixels; where both shrunk offsets are smaller there is no relation (GenEval)
DIRECTION_THRESHOLD = 0.5  # a relation holds where the unit offset passes this value (GenEval)


class Wording(StrEnum):
    """How the prompts of scenes are written: "a dog above an apple", or as in the paper "A dog above a apple"."""

    PLAIN = "plain"
    PAPER = "paper"

    def article(self, phrase: str) -> str:
        """Return the article before a phrase."""
        return "an" if self is Wording.PLAIN and phrase[0].lower() in "aeiou" else "a"

    def sentence(self, text: str) -> str:
        """Return a prompt with its first letter as it is written."""
        return text if self is Wording.PLAIN else text[0].upper() + text[1:]


@dataclass(frozen=True, kw_only=True)
class Triplet:
    """A directed relation between two named objects, or an attribute's word, "is" and the object that has it."""

    subject: str
    relation: str
    object: str


def label_index(name: str, allowed: tuple[str, ...] = LABELS) -> int:
    """Return the index of a label; raises UserError for one that is not allowed."""
    if name not in allowed:
        raise unknown_name("relation", name, allowed)
    return LABELS.index(name)


def relation_named(words: str) -> str | None:
    """Return the relation that one of its wordings names, or None for words that name none of the four."""
    return next((name for name, wordings in WORDINGS.items() if words.strip().lower() in (name, *wordings)), None)


def readings() -> dict[str, tuple[str, ...]]:
    """Return every wording that is read with the relations it states, two for a diagonal ("to the upper left of")."""
    read = {name: (*WORDINGS[name], *ALSO_READ[name]) for name in RELATIONS}
    found: dict[str, tuple[str, ...]] = {wording: (name,) for name, wordings in read.items() for wording in wordings}
    for side in ("left of", "right of"):
        for level in ("above", "below"):
            for across, along in product(read[side], read[level]):
                found |= _joined(across, along, (side, level)) | _joined(along, across, (level, side))
        for wording, corner in product(read[side], _CORNERS):
            found |= _at_corner(wording, side, corner)
    return found


def _joined(first: str, second: str, names: tuple[str, str]) -> dict[str, tuple[str, ...]]:
    """Return "to the left of and above", and "to the left and above" for short."""
    return {f"{first} and {second}": names, f"{first.removesuffix(' of')} and {second}": names}


def _at_corner(wording: str, side: str, corner: str) -> dict[str, tuple[str, ...]]:
    """Return "to the upper left of" for "to the left of".

    It is not "top left of", which cannot be told from "a tank top left of".
    """
    word = side.removesuffix(" of")
    blanks = "-" if corner in _HYPHEN_ALONE or wording.startswith(word) and corner in ("top", "bottom") else " -"
    return {wording.replace(word, f"{corner}{blank}{word}", 1): (_CORNERS[corner], side) for blank in blanks}


def relations_between(box_a: ArrayLike, box_b: ArrayLike) -> frozenset[str]:
    """Return every relation that box A has to box B by GenEval's rule.

    Boxes are (x0, y0, x1, y1) in pixels, y growing downwards. The centre offset is shrunk on each
    axis by 0.1 x (sum of the two sizes), clipped at 0, and divided by the norm of the raw offset; a
    relation holds where that value passes 0.5 (GenEval, arXiv 2310.11513, position task). A diagonal
    arrangement may satisfy two relations, a strongly overlapping one none.
    """
    a = np.asarray(box_a, dtype=float)
    b = np.asarray(box_b, dtype=float)
    offset = (a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2
    sizes = (a[2:] - a[:2]) + (b[2:] - b[:2])
    shrunk = np.sign(offset) * np.maximum(np.abs(offset) - POSITION_THRESHOLD * sizes, 0)
    if (np.abs(shrunk) < MIN_OFFSET).all():
        return frozenset()
    dx, dy = shrunk / np.linalg.norm(offset)
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
