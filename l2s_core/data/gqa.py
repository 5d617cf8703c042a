"""GQA's scene graphs (Hudson & Manning 2019): objects that occur once, in a relation or with an attribute.

Files: `*sceneGraphs.json`, {image id: {"objects": {object id: {"name", "x", "y", "w", "h", "attributes": [word],
"relations": [{"name", "object"}]}}}}, and `images/<image id>.jpg`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import ijson
from pydantic import Field

from l2s_core.data.catalogue import Candidate, Skips
from l2s_core.data.is_a import IsA, is_a_test
from l2s_core.data.listing import file_size
from l2s_core.data.read_source import ReadSource
from l2s_core.data.singular import as_is, singular_names
from l2s_core.data.streams import streamed
from l2s_core.errors import UserError
from l2s_core.relations import ATTRIBUTE, Triplet, relation_named

IMAGES = "images"


class Gqa(ReadSource):
    """GQA: pairs of names of which one is a kind of the other, by `is_a`, are left out."""

    OPTIONAL: ClassVar[tuple[str, ...]] = (*ReadSource.OPTIONAL, "names")
    source: Literal["gqa"] = "gqa"
    is_a: str = Field(default="none", description="WordNet lexicon that tells is-a pairs, e.g. oewn:2024")
    names: Literal["as-is", "singular"] = Field(default="as-is", description="names of objects, some of them plurals")

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
        """Yield every usable triplet, reading the files as streams; what cannot be used is counted in `skips`."""
        is_a = is_a_test(self.is_a)
        named = self._named()
        for file in self.annotation_files():
            for image_id, graph in streamed(file, lambda handle: ijson.kvitems(handle, "")):
                yield from _of_image(self.path, str(image_id), graph, skips, is_a, self.attributes, named)

    def check(self) -> str:
        found = super().check()
        is_a_test(self.is_a)
        self._named()
        return found

    def _named(self) -> Callable[[str], str]:
        """Return what makes an object's name of the one that is written."""
        return singular_names() if self.names == "singular" else as_is


def _of_image(
    folder: Path,
    image_id: str,
    graph: Any,
    skips: Skips,
    is_a: IsA,
    attributes: Collection[str],
    named: Callable[[str], str],
) -> Iterator[Candidate]:
    objects = graph.get("objects") if isinstance(graph, dict) else None
    if not isinstance(objects, dict):
        skips.add(image_id, "no objects in its scene graph")
        return
    image = f"{IMAGES}/{image_id}.jpg"
    if file_size(folder / image) is None:
        skips.add(image_id, "image file missing")
        return
    names = {key: named(name) for key, name in _names(objects, image_id, skips)}
    once = _single(names.values(), is_a)
    for key, subject in names.items():
        place = f"{image_id}/{key}"
        for word in _listed(objects[key], "attributes", str, place, skips):
            if word in attributes and subject in once and word != subject:
                yield Candidate(image=image, triplet=Triplet(subject=word, relation=ATTRIBUTE, object=subject))
        for relation in _listed(objects[key], "relations", dict, place, skips):
            label = relation_named(str(relation.get("name")))
            if label is None or subject not in once:
                continue
            target = names.get(str(relation.get("object")))
            if target is None:
                skips.add(place, "relation to an object that is not there")
            elif target in once:
                yield Candidate(image=image, triplet=Triplet(subject=subject, relation=label, object=target))


def _single(names: Collection[str], is_a: IsA) -> set[str]:
    """Return the names that occur once, and are no kind of another one."""
    counts = Counter(names)
    return {
        name
        for name, count in counts.items()
        if count == 1 and not any(other != name and is_a(name, other) for other in counts)
    }


def _names(objects: dict[str, Any], image_id: str, skips: Skips) -> Iterator[tuple[str, str]]:
    """Yield the id and name of every object that has one; the others are counted."""
    for key, value in objects.items():
        name = value.get("name") if isinstance(value, dict) else None
        if isinstance(name, str) and name:
            yield key, name
        else:
            skips.add(f"{image_id}/{key}", "object without a name")


def _listed(thing: dict[str, Any], key: str, kind: type, place: str, skips: Skips) -> list[Any]:
    """Return the entries of a list of an object's that are of their kind; a list with others, or none, is counted."""
    listed = thing.get(key) or []
    entries = [entry for entry in listed if isinstance(entry, kind)] if isinstance(listed, list) else []
    if entries != listed:
        skips.add(place, f"malformed {key}")
    return entries
