"""Detections kept on disk: an image that was judged once is not judged again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.hashing import digest
from l2s_core.storage.decoding import decode_json
from l2s_core.storage.files import write_text
from l2s_core.storage.lock import exclusive

FORMAT = 1  # raise it when a judge's code finds otherwise than before with the same files and criteria


class CachedJudge(Judge):
    """A judge that remembers: one JSON line an image in `folder`/<fingerprint>.jsonl.

    A line is keyed by the judge's `fingerprint`, the names asked for in their order (a closed set's judge is asked
    for none) and the image's pixels, and carries a checksum. Lines that cannot be read, or whose checksum is wrong, are
    ignored, and gone after the next write. What is found is what the judge finds, to rounding: on a partial hit an
    image has other batch mates.
    """

    def __init__(self, judge: Judge, fingerprint: str, folder: Path) -> None:
        self.judge = judge
        self.fingerprint = fingerprint
        self.path = Path(folder) / f"{fingerprint}.jsonl"
        self.names = judge.names

    def require(self, names: Sequence[str]) -> None:
        self.judge.require(names)

    @property
    def gives_features(self) -> bool:
        return self.judge.gives_features

    def features(self, images: np.ndarray) -> np.ndarray:
        return self.judge.features(images)

    def detect(self, images: np.ndarray, names: Sequence[Sequence[str]] | None = None) -> list[list[Detection]]:
        """Return the detections of every uint8 image (B, H, W, 3), from the file where it has them.

        Errors are the judge's.
        """
        asked: list[tuple[str, ...]] = [()] * len(images)
        if self.judge.OPEN_VOCABULARY:
            if names is None:
                return self.judge.detect(images)  # its own error
            asked = [tuple(one) for one in names]
        keys = [self._key(image, one) for image, one in zip(images, asked, strict=True)]
        known = _read(self.path)
        missing = list({key: place for place, key in enumerate(keys) if key not in known}.values())
        if missing:
            wanted = [asked[place] for place in missing] if self.judge.OPEN_VOCABULARY else None
            found = self.judge.detect(images[missing], wanted)
            known |= {keys[place]: detections for place, detections in zip(missing, found, strict=True)}
            self._write(known)
        return [list(known[key]) for key in keys]

    def _key(self, image: np.ndarray, names: tuple[str, ...]) -> str:
        content = hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
        return digest([FORMAT, self.fingerprint, names, str(image.dtype), image.shape, content], length=64)

    def _write(self, known: Mapping[str, list[Detection]]) -> None:
        """Write what is known and what another process wrote meanwhile."""
        with exclusive(self.path.parent, lambda: None, name=f".{self.path.name}.lock"):
            lines = [_line(key, detections) for key, detections in (_read(self.path) | dict(known)).items()]
            write_text(self.path, "".join(lines))


def _line(key: str, detections: Sequence[Detection]) -> str:
    found = [asdict(d) for d in detections]
    return json.dumps({"key": key, "found": found, "check": digest([key, found])}) + "\n"


def _read(path: Path) -> dict[str, list[Detection]]:
    """Return the detections by key of every sound line; a file that is not there has none."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    return dict(entry for entry in map(_entry, lines) if entry is not None)


def _entry(line: bytes) -> tuple[str, list[Detection]] | None:
    try:
        stated: dict[str, Any] = decode_json(line)
        if stated["check"] != digest([stated["key"], stated["found"]]):
            return None
        return stated["key"], [Detection(**one | {"box": tuple(one["box"])}) for one in stated["found"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
