"""The tables of ablations as records, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from l2s_core.evaluation.statistics.aggregate import Rate
from l2s_core.experiments.sweeps import PointState

FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class PointFigures:
    """What a finished point comes to; `accuracy` is its classifier's test accuracy by kind of prompt, None if unknown.

    Gradient evaluations and seconds are means an image. Where a point has several runs, each with a classifier of its
    own seed, all are means over these, `correct` and `all_found` count the images of all, and `correct_by_seed` is the
    rate of each. `kid_change` is that of the images against plain ones and `kid_error` its standard error, as of one
    run; None where it cannot be told.
    """

    accuracy: Mapping[str, float | None]
    correct: Rate
    all_found: Rate
    gradients: float
    seconds: float
    kid_change: float | None = None
    kid_error: float | None = None
    correct_by_seed: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read them from a row's JSON object; raises KeyError or TypeError for anything else."""
        return cls(
            accuracy=value["accuracy"],
            correct=Rate(**value["correct"]),
            all_found=Rate(**value["all_found"]),
            gradients=value["gradients"],
            seconds=value["seconds"],
            kid_change=value.get("kid_change"),
            kid_error=value.get("kid_error"),
            correct_by_seed=tuple(value.get("correct_by_seed", ())),
        )


@dataclass(frozen=True, kw_only=True)
class AgainstReference:
    """A point held against the reference, on the images of the same prompt and seed.

    `rate` is the point's rate of right relations minus the reference's, `low` to `high` its interval; `p` is the
    sign-flip test's by prompt with Holm's correction for the points of the table, `marked` whether it lies below 0.05.
    """

    rate: float
    low: float
    high: float
    only_reference: int
    only_point: int
    p: float
    marked: bool


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """A point of an ablation: its settings, `text` where they differ from the reference's, and what became of it.

    `figures` are None for a point without images, and `difference` for that, for the reference, and where the
    reference has no images.
    """

    label: str
    reference: bool
    settings: Mapping[str, Any]
    text: str
    state: PointState
    reason: str
    figures: PointFigures | None
    difference: AgainstReference | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object: the figures of a point that has them, or the reason why not."""
        row = asdict(self)
        figures = row.pop("figures")
        reason = row.pop("reason")
        difference = row.pop("difference")
        return {**row, **({"reason": reason} if figures is None else figures), "difference": difference}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        difference = value["difference"]
        return cls(
            label=value["label"],
            reference=value["reference"],
            settings=value["settings"],
            text=value["text"],
            state=PointState(value["state"]),
            reason=value.get("reason", ""),
            figures=PointFigures.from_json(value) if "correct" in value else None,
            difference=None if difference is None else AgainstReference(**difference),
        )


@dataclass(frozen=True, kw_only=True)
class AblationTable:
    """An ablation's points, the reference first; `left_out` says by label why others are none."""

    name: str
    title: str
    question: str
    left_out: Mapping[str, str]
    rows: tuple[AblationRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "name": self.name,
            "title": self.title,
            "question": self.question,
            "left_out": self.left_out,
            "rows": [row.to_json() for row in self.rows],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        rows = tuple(AblationRow.from_json(row) for row in value["rows"])
        return cls(**{**{name: value[name] for name in ("name", "title", "question", "left_out")}, "rows": rows})


@dataclass(frozen=True, kw_only=True)
class Ablations:
    """The tables of a run's configuration, by name; all are held against one reference, whose settings are `config`.

    `identity` tells references apart. `other_settings` names the sections in which the reference is not the run that
    shows it, apart from the benchmark.
    """

    name: str
    identity: str
    config: Mapping[str, Any]
    tables: tuple[AblationTable, ...]
    other_settings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "name": self.name,
            "identity": self.identity,
            "config": self.config,
            "ablations": [table.to_json() for table in self.tables],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            name=value["name"],
            identity=value["identity"],
            config=dict(value["config"]),
            tables=tuple(AblationTable.from_json(table) for table in value["ablations"]),
        )
