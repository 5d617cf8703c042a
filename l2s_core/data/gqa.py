"""GQA's scene graphs (Hudson & Manning 2019): objects that occur once, in one of the four relations or with an attribute.

Files: `*sceneGraphs.json`, {image id: {"objects": {object id: {"name", "x", "y", "w", "h", "attributes": [word],
"relations": [{"name", "object"}]}}}}, and `images/<image id>.jpg`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import ijson

from l2s_core.data.catalogue import Candidate, Skips
from l2s_core.data.streams import streamed
from l2s_core.errors import UserError
from l2s_core.prompts import Triplet
from l2s_core.relations import ATTRIBUTE, relation_named

IMAGES = "images"
Twins = Callable[[str, str], bool]
"""(name, name) -> whether one is a kind of the other."""


def annotation_files(folder: Path) -> list[Path]:
    """Return the scene-graph files; raises UserError when there are none."""
    files = sorted(folder.glob("*sceneGraphs.json"))
    if not files:
        raise UserError(f"{folder} holds no *sceneGraphs.json; unpack GQA's scene graphs there, and its images into {folder / IMAGES}")
    return files


def candidates(folder: Path, skips: Skips, twins: Twins, attributes: Collection[str] = ()) -> Iterator[Candidate]:
    """Yield every usable triplet, reading the files as streams; what cannot be used is counted in `skips`."""
    for file in annotation_files(folder):
        for image_id, graph in streamed(file, lambda handle: ijson.kvitems(handle, "")):
            yield from _of_image(folder, str(image_id), graph, skips, twins, attributes)


def _of_image(folder: Path, image_id: str, graph: Any, skips: Skips, twins: Twins, attributes: Collection[str]) -> Iterator[Candidate]:
    objects = graph.get("objects") if isinstance(graph, dict) else None
    if not isinstance(objects, dict):
        skips.add(image_id, "no objects in its scene graph")
        return
    image = f"{IMAGES}/{image_id}.jpg"
    if not (folder / image).is_file():
        skips.add(image_id, "image file missing")
        return
    names = {key: value.get("name") for key, value in objects.items() if isinstance(value, dict)}
    counts = Counter(name for name in names.values() if isinstance(name, str) and name)
    once = {name for name, count in counts.items() if count == 1 and not any(other != name and twins(name, other) for other in counts)}
    for key, subject in names.items():
        for word in objects[key].get("attributes") or ():
            if word in attributes and subject in once and word != subject:
                yield Candidate(image=image, triplet=Triplet(subject=word, relation=ATTRIBUTE, object=subject))
        for relation in objects[key].get("relations") or ():
            label = relation_named(str(relation.get("name")))
            if label is None or subject not in once:
                continue
            target = names.get(str(relation.get("object")))
            if target is None:
                skips.add(f"{image_id}/{key}", "relation to an object that is not there")
            elif target in once:
                yield Candidate(image=image, triplet=Triplet(subject=subject, relation=label, object=target))
