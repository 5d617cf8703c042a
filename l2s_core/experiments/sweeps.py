"""Sweeps: which points there are, and what they share. Pure; flows run them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from l2s_core.config import (
    CONFIG_FOLDER,
    Overrides,
    Section,
    find_config,
    load_run_config,
    own_overrides,
    read_yaml,
    validate,
)
from l2s_core.errors import UserError
from l2s_core.hashing import digest

FOLDER = CONFIG_FOLDER / "sweeps"


class Range(Section):
    """Numbers that a search draws from: floats, or integers where both ends are; `log` spreads them by ratio."""

    low: int | float
    high: int | float
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low must lie below high, and above 0 with log")
        return self


class SearchConfig(Section):
    """A budgeted search: `trials` points drawn from `space` (a list of choices, or a range), the best by `metric`."""

    trials: int = Field(ge=1)
    space: dict[str, Range | tuple[Any, ...]] = Field(min_length=1)
    seed: int = 0
    prune: bool = Field(
        default=True, description="leave out the images of a point whose classifier is below the median of those before"
    )


class SweepConfig(Section):
    """Points over one configuration: the product of `grid`, the entries of `points`, or a search.

    Keys are dotted settings of a run; `set` holds for every point. A value may name a section, as in a run's file.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    config: str = "mini-sd"
    set: dict[str, Any] = {}
    grid: dict[str, tuple[Any, ...]] = {}
    points: tuple[dict[str, Any], ...] = ()
    search: SearchConfig | None = None
    metric: Literal["correct", "all_found", "test_accuracy"] = Field(
        default="correct", description="what ranks the points, the largest first"
    )

    _file: str = PrivateAttr(default="")

    @property
    def origin(self) -> str:
        """The file it was read from, or its name: where a mistake in its points stands."""
        return self._file or f"sweep {self.name}"

    @property
    def varied_keys(self) -> frozenset[str]:
        """The settings that its points vary."""
        space = self.search.space if self.search else {}
        return frozenset([*self.grid, *space, *(key for one in self.points for key in one)])

    @model_validator(mode="after")
    def _one_kind(self) -> SweepConfig:
        given = [kind for kind in (self.grid, self.points, self.search) if kind]
        if len(given) != 1:
            raise ValueError("give one of grid, points and search")
        empty = [key for key, values in self.grid.items() if not values]
        if empty:
            raise ValueError(f"grid has no value for {', '.join(empty)}")
        return self


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a sweep: what it varies, all that it sets, and a name, if its settings are not to be it."""

    varied: dict[str, Any]
    overrides: dict[str, Any]
    name: str = ""

    @property
    def point_id(self) -> str:
        """A digest of the settings, the same in every process."""
        return digest(self.overrides, 8)

    @property
    def label(self) -> str:
        return self.name or settings_text(self.varied) or "as configured"


class PointState(StrEnum):
    """What became of a point."""

    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class PointResult:
    """A point that ended: what it varies, and its figures, or why there are none.

    `verdicts` is the folder of the verdicts on its steered images, relative to the folder of runs.
    """

    label: str
    point: str
    varied: dict[str, Any]
    state: PointState
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    verdicts: str = ""

    @classmethod
    def of(cls, point: Point, state: PointState, **values: Any) -> PointResult:
        """Return what became of a point."""
        return cls(label=point.label, point=point.point_id, varied=point.varied, state=state, **values)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON has it, without what a state has no use for."""
        return {key: value for key, value in asdict(self).items() if value or key == "varied"}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> PointResult:
        """Return the record of `to_json`."""
        return cls(**{**stored, "state": PointState(stored["state"])})


def load_sweep(path: str | Path, overrides: Mapping[str, Any] | None = None) -> SweepConfig:
    """Read a sweep by path, or by name from configs/sweeps; raises UserError, one line.

    `overrides` hold for every point; a `name` among them is the sweep's.
    """
    found = find_sweep(path)
    sweep: SweepConfig = validate(SweepConfig, read_yaml(found), str(found))
    given = Overrides(overrides or {})
    if given:
        load_run_config(sweep.config, Overrides(sweep.set, str(found)).changed(given))
    for key in sweep.varied_keys & own_overrides(given).keys():
        raise UserError(f"{given.origins[key]}: {key} is what the points of {found} vary; leave it out")
    name = given.pop("name", sweep.name)
    sweep = sweep.model_copy(update={"name": name, "set": {**sweep.set, **given}})
    sweep._file = str(found)
    return sweep


def find_sweep(path: str | Path) -> Path:
    """Return the file that a user means by a path, or by a name in configs/sweeps."""
    return find_config(path, FOLDER, "sweep")


def points_of(sweep: SweepConfig) -> list[Point]:
    """Return the points of a grid or a list, those that share most of a chain next to each other; none for a search."""
    if sweep.points:
        return [point(sweep, varied) for varied in sweep.points]
    if not sweep.grid:
        return []
    return [point(sweep, dict(zip(sweep.grid, values, strict=True))) for values in product(*sweep.grid.values())]


def corners_of(sweep: SweepConfig) -> list[Point]:
    """Return two points of a search: its lowest and its highest.

    The lowest has the low ends of the ranges and the first choices, the highest the high ends and the last choices.
    """
    if sweep.search is None:
        raise ValueError(f"sweep {sweep.name} is no search")
    lowest = {}
    highest = {}
    for key, values in sweep.search.space.items():
        lowest[key] = values.low if isinstance(values, Range) else values[0]
        highest[key] = values.high if isinstance(values, Range) else values[-1]
    return [point(sweep, lowest), point(sweep, highest)]


def point(sweep: SweepConfig, varied: Mapping[str, Any], name: str = "") -> Point:
    """Return the point with these values."""
    overrides = Overrides({**sweep.set, **varied, "name": sweep.name}, sweep.origin)
    return Point(varied=dict(varied), overrides=overrides, name=name)


def rank(results: Sequence[PointResult], metric: str) -> list[PointResult]:
    """Return finished points, the best first; equal ones by fewer seconds an image."""
    finished = [result for result in results if result.state == PointState.FINISHED]
    return sorted(finished, key=lambda result: (-result.metrics[metric], result.metrics["seconds"]))


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as a reader recognises them: short keys with their values.

    A key is its last part, or the whole key where two keys end alike.
    """
    last = {key: key.rpartition(".")[2] for key in settings}
    count = Counter(last.values())
    names = {key: end if count[end] == 1 else key for key, end in last.items()}
    return ", ".join(f"{names[key]}={_short(value)}" for key, value in settings.items())


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_short(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return (" and " if any(isinstance(entry, str) for entry in value) else "-").join(map(_short, value)) or "none"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
