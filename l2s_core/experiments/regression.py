"""Whether a run's figures are those of the last good run of the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from l2s_core.config import ToleranceConfig
from l2s_core.evaluation.run_summary import RunSummary
from l2s_core.storage.files import write_json
from l2s_core.storage.versioned import read_versioned

FOLDER = "baselines"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is held against the last good run; each by name of a method, `accuracy` by name of a classifier.

    The fields are those of ToleranceConfig.
    """

    correct: Mapping[str, float]
    all_found: Mapping[str, float]
    accuracy: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, with the number of its format."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises KeyError for anything else."""
        return cls(**{field.name: dict(value[field.name]) for field in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One figure: then, now, and how far apart they may be."""

    figure: str
    last: float
    now: float
    allowed: float

    @property
    def ok(self) -> bool:
        return (
            abs(self.now - self.last) <= self.allowed + 1e-9
        )  # rates are ratios of counts: exactly the tolerance is inside


def figures_of(summary: RunSummary) -> Figures:
    """Return the figures of a run that are held against the last good ones."""
    methods = {name: figures.summary for name, figures in summary.by_method.items()}
    results = {name: classifier.result for name, classifier in summary.classifiers.items()}
    return Figures(
        correct={name: figures.correct.rate for name, figures in methods.items()},
        all_found={name: figures.all_found.rate for name, figures in methods.items()},
        accuracy={name: result.test["accuracy"] for name, result in results.items() if result is not None},
    )


def compare(now: Figures, last: Figures, tolerance: ToleranceConfig) -> list[Comparison]:
    """Return every figure that both runs have."""
    kinds = (
        ("correct", now.correct, last.correct, tolerance.correct),
        ("all_found", now.all_found, last.all_found, tolerance.all_found),
        ("accuracy", now.accuracy, last.accuracy, tolerance.accuracy),
    )
    return [
        Comparison(figure=f"{kind}, {name}", last=before[name], now=value, allowed=allowed)
        for kind, values, before, allowed in kinds
        for name, value in values.items()
        if name in before
    ]


def load_baseline(home: Path, run_id: str) -> Figures | None:
    """Return the figures of the last good run with this id, or None when there was none.

    Raises UserError, one line, for figures that another version saved.
    """
    path = baseline_file(home, run_id)
    if not path.is_file():
        return None
    return read_versioned(
        path, FORMAT, Figures.from_json, what="figures of a run", remedy="delete it to accept those of the next run"
    )


def save_baseline(home: Path, run_id: str, figures: Figures) -> None:
    """Make these figures the last good ones."""
    write_json(baseline_file(home, run_id), figures.to_json())


def baseline_file(home: Path, run_id: str) -> Path:
    """Where the last good figures of the runs with this id lie."""
    return home / FOLDER / f"{run_id}.json"
