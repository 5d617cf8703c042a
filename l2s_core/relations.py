"""The spatial relations: what each is called and where it points, and GenEval's geometric rule for those in the plane.

`SPATIAL` is the one place that defines a relation. Its opposite, what mirrors make of it, whether boxes show it and
which words state it follow from its entry; which ones a run has is `data.relations`. Beside them stands "is", the
relation of an attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from l2s_core.errors import unknown_name

Relation = Literal["left of", "right of", "above", "below", "in front of", "behind"]
Direction = tuple[int, int, int]
"""Where the subject lies from the object: x to the right, y down, z away from the viewer."""


@dataclass(frozen=True, kw_only=True)
class Spatial:
    """A spatial relation: its direction, and the words that state it.

    The first of `wordings` is the one that is written by default; prompts of data may have any of them. Those of
    `also_read` are read in prompts and never written. Data name a relation by its name or by one of `wordings`.
    """

    direction: Direction
    wordings: tuple[str, ...]
    also_read: tuple[str, ...] = ()

    @property
    def in_plane(self) -> bool:
        """Whether boxes and maps show it, by where they lie in the image."""
        return self.direction[2] == 0


def _side_forms(side: str) -> tuple[str, ...]:
    return tuple(
        form.format(side)
        for form in (
            "on the {} of",
            "at the {} of",
            "on the {} side of",
            "to the {} side of",
            "on the {}-hand side of",
            "on the {} hand side of",
            "{} from",
            "to the {} from",
        )
    )


SPATIAL: dict[Relation, Spatial] = {
    "left of": Spatial(direction=(-1, 0, 0), wordings=("to the left of", "left of"), also_read=_side_forms("left")),
    "right of": Spatial(direction=(1, 0, 0), wordings=("to the right of", "right of"), also_read=_side_forms("right")),
    "above": Spatial(
        direction=(0, -1, 0),
        wordings=("above",),
        also_read=("over", "on top of", "on the top of", "at the top of", "atop"),
    ),
    "below": Spatial(
        direction=(0, 1, 0),
        wordings=("below",),
        also_read=("under", "beneath", "underneath", "on the bottom of", "at the bottom of"),
    ),
    "in front of": Spatial(direction=(0, 0, -1), wordings=("in front of",)),
    "behind": Spatial(direction=(0, 0, 1), wordings=("behind",), also_read=("hidden by", "hidden behind")),
}
RELATIONS: tuple[Relation, ...] = get_args(Relation)
PLANAR: tuple[Relation, ...] = tuple(name for name, relation in SPATIAL.items() if relation.in_plane)
"""Those that boxes show; a run has them unless its configuration says otherwise."""
ATTRIBUTE = "is"  # subject: an attribute's word, object: what has it
LABELS: tuple[str, ...] = (*PLANAR, ATTRIBUTE, *(name for name in RELATIONS if name not in PLANAR))
"""All that classifiers may tell apart, in the order of their answers; each knows some of them (`DataConfig.labels`)."""
DIAGONALS: tuple[tuple[str, str], ...] = tuple(product(("above", "below"), ("left of", "right of")))
"""The relations of two objects that stand diagonally."""
WORDINGS: dict[str, tuple[str, ...]] = {name: relation.wordings for name, relation in SPATIAL.items()}
"""How each relation is worded in prompts; the first wording is the canonical one."""
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


def moved(name: str, move: Callable[[Direction], Direction]) -> str:
    """Return what a move of directions makes of a label; an attribute's has no direction, and stays."""
    spatial = {str(label): relation.direction for label, relation in SPATIAL.items()}
    if name not in spatial:
        return name
    return next(label for label, direction in spatial.items() if direction == move(spatial[name]))


def opposite(direction: Direction) -> Direction:
    """Return where the object lies from the subject."""
    x, y, z = direction
    return -x, -y, -z


OPPOSITE: dict[str, str] = {name: moved(name, opposite) for name in RELATIONS}


def relation_named(words: str) -> str | None:
    """Return the relation that one of its wordings names, or None for words that name none."""
    return next((name for name, wordings in WORDINGS.items() if words.strip().lower() in (name, *wordings)), None)


def readings() -> dict[str, tuple[str, ...]]:
    """Return every wording that is read with the relations it states, two for a diagonal ("to the upper left of")."""
    read = {name: (*relation.wordings, *relation.also_read) for name, relation in SPATIAL.items()}
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
