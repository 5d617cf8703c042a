"""What a finished run tells of the time that another one of its model takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2s_core.config import MAIN, RunConfig
from l2s_core.evaluation.run_summary import FORMAT, RunSummary
from l2s_core.evaluation.work import Prices
from l2s_core.planning.rehearsal import priced_settings
from l2s_core.storage.versioned import read_versioned


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What work costs on a machine: seconds of an evaluation of each kind, and of a training where that is known."""

    prices: Prices
    training: float | None = None


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """The figures of a finished run, and the settings that it had."""

    summary: RunSummary
    config: RunConfig

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PastRun:
        """Read a report's summary; raises KeyError, TypeError or ValueError for anything else."""
        return cls(summary=RunSummary.from_json(value), config=RunConfig.model_validate(value["config"]))

    @property
    def training(self) -> float | None:
        """The seconds of the training of its classifier, None for one that was given."""
        result = self.summary.classifiers[MAIN].result
        return None if result is None else result.seconds

    @property
    def speed(self) -> Speed:
        """Seconds of an evaluation, from those of its images.

        An evaluation without guidance counts as one with it, and all of decoding and judging as part of the steps: so
        these are bounds from above.
        """
        plain = self.summary.plain.summary
        steered = self.summary.classifiers[MAIN].steered.summary
        step = plain.seconds / self.config.backbone.steps
        extra = max(0.0, steered.seconds - plain.seconds)
        gradient = extra / steered.gradients if steered.gradients else 2 * step
        return Speed(prices=Prices(forward=step, guided=step, gradient=gradient), training=self.training)


def read_past_run(path: Path, config: RunConfig) -> PastRun | None:
    """Return the run of a report's summary.json; None without one, and for one of another model or other layers.

    Raises UserError, one line, for one that is damaged or of another version.
    """
    if not path.is_file():
        return None
    past = read_versioned(
        path,
        FORMAT,
        PastRun.from_json,
        what="report's summary",
        remedy="delete it, and give the command that made it again",
    )
    return past if priced_settings(past.config) == priced_settings(config) else None
