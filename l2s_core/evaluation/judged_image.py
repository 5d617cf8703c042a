"""An image of the benchmark with its verdict: one entry of verdicts.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.protocols.verdict import Failure, RelationVerdict, Verdict
from l2s_core.storage.sealed import REBUILD
from l2s_core.storage.versioned import read_versioned, write_versioned

FILE = "verdicts.json"
FORMAT = 1  # of the file
OPTIONAL = ("candidates", "chosen")  # of methods that choose among several images


@dataclass(frozen=True, kw_only=True)
class JudgedImage:
    """What was asked for, what was found, and what the image cost.

    `asks_for` says in a word what the prompt asks for, its one relation or its task; `detections` are the finds that
    take part in the verdict. `gradients`, `checks` and `skipped` count evaluations and updates of the steering,
    `seconds` is the wall time of the image, `peak_bytes` the peak of memory meanwhile. `candidates` is how many
    images a method chose this one from, `chosen` which of them it is.
    """

    item_id: str
    prompt_group: str
    prompt: str
    seed: int
    asks_for: str
    objects: tuple[str, ...]
    verdict: Verdict
    detections: tuple[Detection, ...]
    gradients: int = 0
    checks: int = 0
    skipped: int = 0
    seconds: float = 0.0
    peak_bytes: int | None = None
    candidates: int | None = None
    chosen: int | None = None

    @property
    def correct(self) -> bool:
        """Whether the image shows all that its prompt asks for."""
        return self.verdict.correct

    @property
    def all_found(self) -> bool:
        """Whether every object was found, as often as asked."""
        return self.verdict.all_found

    @property
    def score(self) -> float | None:
        """The soft score in [0, 1] of a protocol that has one."""
        return self.verdict.score

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the file; what follows from the verdict is written out for readers of the file."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {
            **{name: value for name, value in plain.items() if value is not None or name not in OPTIONAL},
            "objects": list(self.objects),
            "correct": self.correct,
            "all_found": self.all_found,
            "reason": self.verdict.reason,
            "score": self.score,
            **({} if self.verdict.lenient is None else {"lenient": self.verdict.lenient}),
            "failures": [failure.to_json() for failure in self.verdict.failures],
            "relations": [relation.to_json() for relation in self.verdict.relations],
            "detections": [asdict(detection) for detection in self.detections],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JudgedImage:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        verdict = Verdict(
            failures=tuple(Failure.from_json(failure) for failure in value["failures"]),
            relations=tuple(RelationVerdict.from_json(relation) for relation in value["relations"]),
            score=value["score"],
            lenient=value.get("lenient"),
        )
        return cls(
            **{name: value[name] for name in _PLAIN if name in value or name not in OPTIONAL},
            objects=tuple(value["objects"]),
            verdict=verdict,
            detections=tuple(Detection(**{**find, "box": tuple(find["box"])}) for find in value["detections"]),
        )


_PLAIN = tuple(field.name for field in fields(JudgedImage) if field.name not in ("objects", "verdict", "detections"))


def write_judged(path: Path, images: Sequence[JudgedImage]) -> None:
    """Write a method's images atomically."""
    write_versioned(path, FORMAT, {"images": [image.to_json() for image in images]})


def read_judged(path: Path) -> list[JudgedImage]:
    """Read what `write_judged` wrote; raises UserError for a file that is missing or holds something else."""
    return read_versioned(path, FORMAT, _images, what="verdicts", remedy=REBUILD)


def _images(stored: Mapping[str, Any]) -> list[JudgedImage]:
    return [JudgedImage.from_json(value) for value in stored["images"]]
