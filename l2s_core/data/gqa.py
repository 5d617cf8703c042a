"""GQA's scene graphs (Hudson & Manning 2019): objects in a relation or with an attribute, told apart by their names.

Files: `*sceneGraphs.json`, {image id: {"objects": {object id: {"name", "x", "y", "w", "h", "attributes": [word],
"relations": [{"name", "object"}]}}}}, and `images/<image id>.jpg`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import ijson
from pydantic import Field, model_validator

from l2s_core.data.catalogue import Candidate, Skips
from l2s_core.data.images import Part, image_size, shown_part
from l2s_core.data.is_a import IsA, is_a_test
from l2s_core.data.listing import image_bytes
from l2s_core.data.read_source import ReadSource
from l2s_core.data.singular import as_is, singular_names
from l2s_core.data.streams import streamed
from l2s_core.errors import UserError
from l2s_core.relations import ATTRIBUTE, PLANAR, Triplet, relation_named, relations_between
from l2s_core.sizes import SQUARE, Size, sides

IMAGES = "images"
BOX = ("x", "y", "w", "h")
LEAST_SHOWN = 0.5  # share of an object's box that the part shown must have
ToldApart = Callable[[Collection[str]], set[str]]
"""The names of an image's objects -> those that may be named in a prompt."""


class Gqa(ReadSource):
    """GQA: pairs of names of which one is a kind of the other, by `is_a`, are left out.

    So are objects that the part of the image that is shown has not at least half of, by their boxes.
    """

    OPTIONAL: ClassVar[tuple[str, ...]] = (*ReadSource.OPTIONAL, "is_a_levels", "names", "repeated", "diagonals")
    source: Literal["gqa"] = "gqa"
    is_a: str = Field(default="none", description="WordNet lexicon that tells is-a pairs, e.g. oewn:2024")
    is_a_levels: int | None = Field(
        default=None,
        ge=1,
        description="a name is a kind of another one that is 1 to so many levels above it; default: any number of "
        "levels, names of one meaning included",
    )
    names: Literal["as-is", "singular"] = Field(default="as-is", description="names of objects, some of them plurals")
    repeated: Literal["left-out", "kept"] = Field(
        default="left-out", description="objects whose name another object of the image has, too"
    )
    diagonals: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the scenes of each relation whose boxes show a second one by GenEval's rule; where there "
        "is such a share, those of the others show the stated relation alone",
    )

    @model_validator(mode="after")
    def _diagonals_have_all_relations(self) -> Gqa:
        if self.diagonals and not set(PLANAR) <= set(self.relations):
            raise ValueError(f"diagonals show two of {', '.join(PLANAR)}; data.relations lacks one of them")
        return self

    @property
    def states_diagonals(self) -> bool:
        return self.diagonals > 0

    def quotas(self, count: int) -> dict[str, int]:
        diagonal = round(count * self.diagonals)
        of_one = super().quotas(count)
        of_two = {self.quota_of_diagonal(name): diagonal for name in PLANAR} if diagonal else {}
        return {name: number - diagonal * (name in PLANAR) for name, number in of_one.items()} | of_two

    def quota_of(self, triplet: Triplet, *, diagonal: bool = False) -> str:
        return self.quota_of_diagonal(triplet.relation) if diagonal else super().quota_of(triplet)

    @staticmethod
    def quota_of_diagonal(relation: str) -> str:
        """Return the kind of scenes that are chosen for a relation, and show a second one."""
        return f"{relation}, diagonal"

    def annotation_files(self) -> list[Path]:
        """Return the scene-graph files; raises UserError when there are none."""
        files = sorted(self.path.glob("*sceneGraphs.json"))
        if not files:
            raise UserError(
                f"{self.path} holds no *sceneGraphs.json; "
                f"unpack GQA's scene graphs there, and its images into {self.path / IMAGES}"
            )
        return files

    def image_names(self) -> list[str]:
        """Return the images that are there, whether or not a scene graph tells of them."""
        try:
            return [f"{IMAGES}/{entry.name}" for entry in os.scandir(self.path / IMAGES) if entry.name.endswith(".jpg")]
        except OSError:  # no such folder: each image is counted as missing
            return []

    def candidates(self, skips: Skips) -> Iterator[Candidate]:
        return self.candidates_for(SQUARE, skips)

    def candidates_for(self, size: Size, skips: Skips) -> Iterator[Candidate]:
        """Yield every usable triplet that images of a size show, reading the files as streams.

        What cannot be used is counted in `skips`.
        """
        told_apart = self._told_apart()
        named = self._named()
        for file in self.annotation_files():
            for image_id, graph in streamed(file, lambda handle: ijson.kvitems(handle, "")):
                yield from _of_image(self, str(image_id), graph, size, skips, told_apart, named)

    def check(self) -> str:
        found = super().check()
        self._told_apart()
        self._named()
        return found

    def _told_apart(self) -> ToldApart:
        """Return what chooses, of an image's names, those that stand for an object of their own."""
        is_a = is_a_test(self.is_a, self.is_a_levels)
        return partial(_told_apart, is_a=is_a, repeated=self.repeated == "kept")

    def _named(self) -> Callable[[str], str]:
        """Return what makes an object's name of the one that is written."""
        return singular_names() if self.names == "singular" else as_is


def _of_image(
    source: Gqa,
    image_id: str,
    graph: Any,
    size: Size,
    skips: Skips,
    told_apart: ToldApart,
    named: Callable[[str], str],
) -> Iterator[Candidate]:
    objects = graph.get("objects") if isinstance(graph, dict) else None
    if not isinstance(objects, dict):
        skips.add(image_id, "no objects in its scene graph")
        return
    image = f"{IMAGES}/{image_id}.jpg"
    if image_bytes(source.path, image) is None:
        skips.add(image_id, "image file missing")
        return
    names = {key: named(name) for key, name in _names(objects, image_id, skips)}
    usable = told_apart(names.values())
    whole = _size(graph, source.path / image)
    part = shown_part(whole, size, source.resize)
    rows, columns = sides(size)
    stretch = (columns / whole[0], rows / whole[1]) if source.resize == "squash" else (1.0, 1.0)
    for key, other, triplet in _stated(source, objects, names, image_id, skips):
        if not {names[key], names[other]} <= usable:
            continue
        if not (_is_shown(objects[key], part) and _is_shown(objects[other], part)):
            skips.add(f"{image_id}/{key}", "an object's box is empty, or outside of the part that is shown")
            continue
        held = frozenset([triplet.relation])
        if source.diagonals and triplet.relation in PLANAR:
            held = _shown_relations(objects[key], objects[other], stretch)
        if triplet.relation in held:
            also = tuple(replace(triplet, relation=name) for name in PLANAR if name in held - {triplet.relation})
            yield Candidate(image=image, triplet=triplet, also=also)
        else:
            skips.add(f"{image_id}/{key}", "its boxes do not show the relation")


def _stated(
    source: Gqa, objects: dict[str, Any], names: Mapping[str, str], image_id: str, skips: Skips
) -> Iterator[tuple[str, str, Triplet]]:
    """Yield every attribute and spatial relation with the ids of its two objects, for an attribute twice the one."""
    for key, subject in names.items():
        place = f"{image_id}/{key}"
        for word in _listed(objects[key], "attributes", str, place, skips):
            if word in source.attributes and word != subject:
                yield key, key, Triplet(subject=word, relation=ATTRIBUTE, object=subject)
        for relation in _listed(objects[key], "relations", dict, place, skips):
            label = relation_named(str(relation.get("name")))
            if label not in source.relations:
                continue
            other = str(relation.get("object"))
            if other not in names:
                skips.add(place, "relation to an object that is not there")
            elif names[other].casefold() != subject.casefold():  # a pair of one name is none
                yield key, other, Triplet(subject=subject, relation=label, object=names[other])


def _size(graph: Mapping[str, Any], image: Path) -> tuple[int, int]:
    """Return the (width, height) that boxes count in: the graph's, else the image's; (1, 1) where neither says."""
    width = graph.get("width")
    height = graph.get("height")
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    return image_size(image) or (1, 1)


def _is_shown(thing: Mapping[str, Any], part: Part) -> bool:
    """Whether half of an object's box or more is in a part of its image; an object without a box counts as shown."""
    if not any(key in thing for key in BOX):
        return True
    box = _box(thing)
    if box is None:
        return False
    x, y, width, height = box
    left, top, right, bottom = part
    across = max(0.0, min(x + width, right) - max(x, left))
    along = max(0.0, min(y + height, bottom) - max(y, top))
    return width > 0 and height > 0 and across * along >= LEAST_SHOWN * width * height


def _shown_relations(
    subject: Mapping[str, Any], other: Mapping[str, Any], stretch: tuple[float, float]
) -> frozenset[str]:
    """Return the relations that boxes have by GenEval's rule in an image stretched in (x, y); none without boxes."""
    boxes = [box for thing in (subject, other) if (box := _box(thing)) is not None]
    if len(boxes) < 2:
        return frozenset()
    across, along = stretch
    return relations_between(
        *([x * across, y * along, (x + width) * across, (y + height) * along] for x, y, width, height in boxes)
    )


def _box(thing: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """Return an object's (x, y, width, height), or None where it has no box of numbers."""
    try:
        x, y, width, height = (float(thing[key]) for key in BOX)
    except (KeyError, TypeError, ValueError):
        return None
    return x, y, width, height


def _told_apart(names: Collection[str], *, is_a: IsA, repeated: bool) -> set[str]:
    """Return the names that are no kind of another one, and unless `repeated` occur once, whatever their capitals."""
    counts = Counter(name.casefold() for name in names)
    return {
        name
        for name in names
        if (repeated or counts[name.casefold()] == 1)
        and not any(other != name and is_a(name, other) for other in names)
    }


def _names(objects: dict[str, Any], image_id: str, skips: Skips) -> Iterator[tuple[str, str]]:
    """Yield the id and name of every object that has one; the others are counted."""
    for key, value in objects.items():
        name = value.get("name") if isinstance(value, dict) else None
        if isinstance(name, str) and name.strip():
            yield key, " ".join(name.split())
        else:
            skips.add(f"{image_id}/{key}", "object without a name")


def _listed(thing: dict[str, Any], key: str, kind: type, place: str, skips: Skips) -> list[Any]:
    """Return the entries of a list of an object's that are of their kind; a list with others, or none, is counted."""
    listed = thing.get(key) or []
    entries = [entry for entry in listed if isinstance(entry, kind)] if isinstance(listed, list) else []
    if entries != listed:
        skips.add(place, f"malformed {key}")
    return entries
