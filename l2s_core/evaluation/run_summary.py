"""What a run came to: the figures of every method and classifier, as a report's summary.json has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from l2s_core.classifier.experiment import ClassifierResult
from l2s_core.config import PLAIN
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.methods.method import Method
from l2s_core.evaluation.statistics.aggregate import MethodSummary
from l2s_core.storage.versioned import read_versioned

FORMAT = 2
FILE = "summary.json"


@dataclass(frozen=True, kw_only=True)
class MethodFigures:
    """What a method of a run comes to; `candidates` is the number of images it chooses from, None where it does not."""

    kind: str
    label: str
    summary: MethodSummary
    candidates: int | None = None

    @classmethod
    def of(cls, name: str, method: Method, images: Sequence[JudgedImage]) -> Self:
        """Return the figures of a method from its name in the run and its judged images."""
        return cls(
            kind=method.kind,
            label=method.label(name, images),
            summary=MethodSummary.of(images),
            candidates=images[0].candidates,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        candidates = {} if self.candidates is None else {"candidates": self.candidates}
        return {"kind": self.kind, "label": self.label, **candidates, **self.summary.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises KeyError or TypeError for anything else."""
        return cls(
            kind=value["kind"],
            label=value["label"],
            summary=MethodSummary.from_json(value),
            candidates=value.get("candidates"),
        )


@dataclass(frozen=True, kw_only=True)
class ClassifierFigures:
    """What steering by a classifier comes to, and how the classifier was trained: None for a given one.

    `by_maps` are the metrics of its test on every kind of maps that the run has, empty where that is one kind alone.
    """

    steered: MethodFigures
    result: ClassifierResult | None = None
    by_maps: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; one of a given classifier has the images' figures alone."""
        steered = {"steered": self.steered.to_json()}
        if self.result is None:
            return steered
        return {"result": self.result.to_json(), **steered, "by_maps": self.by_maps}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises KeyError or TypeError for anything else."""
        return cls(
            steered=MethodFigures.from_json(value["steered"]),
            result=ClassifierResult.from_json(value["result"]) if "result" in value else None,
            by_maps=value.get("by_maps", {}),
        )


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """A method in a table: its name in the run, its figures, and the seconds of its images over those of plain ones."""

    name: str
    label: str
    summary: MethodSummary
    time_ratio: float


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The figures of a run: plain sampling, every classifier, the run's own first, and every further method."""

    name: str
    plain: MethodFigures
    classifiers: Mapping[str, ClassifierFigures]
    methods: Mapping[str, MethodFigures]

    @property
    def by_method(self) -> dict[str, MethodFigures]:
        """The figures of every method of sampling by name, plain first."""
        steered = {name: classifier.steered for name, classifier in self.classifiers.items()}
        return {PLAIN: self.plain, **steered, **self.methods}

    @property
    def rows(self) -> tuple[MethodRow, ...]:
        """Every method of sampling in the order of tables."""
        plain = self.plain.summary.seconds
        return tuple(
            MethodRow(
                name=name,
                label=figures.label,
                summary=figures.summary,
                time_ratio=figures.summary.seconds / plain,
            )
            for name, figures in self.by_method.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "name": self.name,
            "plain": self.plain.to_json(),
            "classifiers": {name: classifier.to_json() for name, classifier in self.classifiers.items()},
            "methods": {name: method.to_json() for name, method in self.methods.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote, whatever stands beside it; raises KeyError or TypeError for anything else."""
        return cls(
            name=value["name"],
            plain=MethodFigures.from_json(value["plain"]),
            classifiers={name: ClassifierFigures.from_json(one) for name, one in value["classifiers"].items()},
            methods={name: MethodFigures.from_json(one) for name, one in value["methods"].items()},
        )


def read_summary(path: Path) -> RunSummary:
    """Read the figures of a report's summary.json; raises UserError, one line, for one of another version."""
    return read_versioned(
        path,
        FORMAT,
        RunSummary.from_json,
        what="report's summary",
        remedy="delete it, and give the command that made it again",
    )
