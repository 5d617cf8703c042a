"""Anyone's own images: a folder with scenes.jsonl, one {"image", "subject", "relation", "object"} a line.

An attribute is a line of its own: {"image": "a.jpg", "subject": "white", "relation": "is", "object": "dog"}.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from l2s_core.data.catalogue import ONE_NAME, Candidate, Skips, names_two
from l2s_core.data.listing import image_bytes
from l2s_core.data.read_source import ReadSource
from l2s_core.errors import UserError
from l2s_core.relations import ATTRIBUTE, Triplet, relation_named
from l2s_core.storage.decoding import decode_json
from l2s_core.storage.lines import numbered_lines

FILE = "scenes.jsonl"
KEYS = ("image", "subject", "relation", "object")


class Jsonl(ReadSource):
    """A folder of anyone's own images with scenes.jsonl."""

    source: Literal["jsonl"] = "jsonl"

    def annotation_files(self) -> list[Path]:
        """Return the one file; raises UserError when it is not there."""
        if not (self.path / FILE).is_file():
            raise UserError(
                f"{self.path} holds no {FILE}; write one line a scene: "
                '{"image": "a.jpg", "subject": "dog", "relation": "above", "object": "cat"}'
            )
        return [self.path / FILE]

    def image_names(self) -> Iterator[str]:
        """Yield the images that the file names, whether or not they are there."""
        for file in self.annotation_files():
            yield from (values[0] for _, values in _lines(file) if values is not None)

    def candidates(self, skips: Skips) -> Iterator[Candidate]:
        """Yield the scenes of the file, line by line; a line that cannot be used is counted in `skips`."""
        for file in self.annotation_files():
            for name, values in _lines(file):
                candidate = self._candidate(values)
                if isinstance(candidate, Candidate):
                    yield candidate
                else:
                    skips.add(name, candidate)

    def _candidate(self, values: list[str] | None) -> Candidate | str:
        """Return the scene of a line's values, or why it cannot be used."""
        if values is None:
            return f"not an object with {', '.join(KEYS)}"
        image, subject, relation, object_ = values
        label = ATTRIBUTE if self.attributes and relation == ATTRIBUTE else relation_named(relation)
        if label not in self.chosen:
            return "not one of data.relations"
        if label == ATTRIBUTE and subject not in self.attributes:
            return "not one of the attributes"
        if image_bytes(self.path, image) is None:
            return "image file missing"
        triplet = Triplet(subject=subject, relation=label, object=object_)
        return Candidate(image=image, triplet=triplet) if names_two(triplet) else ONE_NAME


def _lines(file: Path) -> Iterator[tuple[str, list[str] | None]]:
    """Yield the name of every line that is not empty, and its values of KEYS, if it has them."""
    for number, line in numbered_lines(file):
        yield f"{FILE}:{number}", _values(line)


def _values(line: bytes) -> list[str] | None:
    """Return the values of KEYS in a line; None where one is missing or no text."""
    try:
        row = decode_json(line)
        values = [row[key] for key in KEYS]
        "".join(values)  # fails for what is no text
    except (ValueError, KeyError, TypeError):
        return None
    return values
