"""Anyone's own images: a folder with scenes.jsonl, one {"image", "subject", "relation", "object"} a line.

An attribute is a line of its own: {"image": "a.jpg", "subject": "white", "relation": "is", "object": "dog"}.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from l2s_core.data.catalogue import Candidate, Skips
from l2s_core.data.listing import file_size
from l2s_core.errors import UserError
from l2s_core.prompts.prompt import Triplet
from l2s_core.relations import ATTRIBUTE, relation_named

FILE = "scenes.jsonl"
KEYS = ("image", "subject", "relation", "object")


def annotation_files(folder: Path) -> list[Path]:
    """Return the one file; raises UserError when it is not there."""
    if not (folder / FILE).is_file():
        raise UserError(
            f"{folder} holds no {FILE}; write one line a scene: "
            + '{"image": "a.jpg", "subject": "dog", "relation": "above", "object": "cat"}'
        )
    return [folder / FILE]


def image_names(folder: Path) -> Iterator[str]:
    """Yield the images that the file names, whether or not they are there."""
    yield from (values[0] for _, values in _lines(folder) if values is not None)


def candidates(folder: Path, skips: Skips, attributes: Collection[str] = ()) -> Iterator[Candidate]:
    """Yield the scenes of the file, line by line; a line that cannot be used is counted in `skips`."""
    for name, values in _lines(folder):
        if values is None:
            skips.add(name, f"not an object with {', '.join(KEYS)}")
            continue
        image, subject, relation, object_ = values
        label = ATTRIBUTE if attributes and relation == ATTRIBUTE else relation_named(relation)
        if label is None:
            skips.add(name, "not one of the four relations")
        elif label == ATTRIBUTE and subject not in attributes:
            skips.add(name, "not one of the attributes")
        elif file_size(folder / image) is None:
            skips.add(name, "image file missing")
        elif not subject or not object_ or subject == object_:
            skips.add(name, "subject and object must be two names")
        else:
            yield Candidate(image=image, triplet=Triplet(subject=subject, relation=label, object=object_))


def _lines(folder: Path) -> Iterator[tuple[str, list[str] | None]]:
    """Yield the name of every line that is not empty, and its values of KEYS, if it has them."""
    (file,) = annotation_files(folder)
    with open(file, encoding="utf-8", errors="replace") as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                yield f"{FILE}:{number}", _values(line)


def _values(line: str) -> list[str] | None:
    """Return the values of KEYS in a line; None where one is missing or no text."""
    try:
        row = json.loads(line)
        values = [row[key] for key in KEYS]
        "".join(values).encode()  # fails for what is no text, or half a character
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return values
