"""What a rehearsal measured, as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from l2s_core.config import Scale
from l2s_core.evaluation.work import Prices

FORMAT = 1  # of the file of a rehearsal


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One operation: seconds an image (of a batch), and the peak of memory while it ran, bytes."""

    operation: str
    unit: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What every operation took on a machine, and what the whole run would take there.

    `settings` is the digest of what the figures are of. `weights` are bytes, `random` says that they were drawn.
    `hours` maps stages to at most so many hours; it is empty for a tiny model.
    """

    name: str
    settings: str
    scale: Scale
    device: str
    dtype: str
    images: int
    weights: int
    random: bool
    measured: tuple[Measured, ...]
    hours: Mapping[str, float]

    @property
    def prices(self) -> Prices:
        """The seconds of an evaluation of each kind."""
        return prices_of(self.measured)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the record of `to_json`, whatever stands beside it; raises KeyError or TypeError for anything else."""
        values = {field.name: stored[field.name] for field in fields(cls)}
        return cls(**{**values, "measured": tuple(Measured(**row) for row in values["measured"])})


def prices_of(measured: tuple[Measured, ...]) -> Prices:
    """Return the seconds of an evaluation of each kind, from a rehearsal's rows."""
    seconds = {row.operation: row.seconds for row in measured}
    return Prices(forward=seconds["plain step"], guided=seconds["guided step"], gradient=seconds["steering gradient"])
