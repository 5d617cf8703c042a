"""All that a report says, as a record; its JSON is summary.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from l2s_core.config import RunConfig
from l2s_core.evaluation.metrics.published import PublishedBeside
from l2s_core.evaluation.run_summary import RunSummary
from l2s_core.report.dataset_summary import DatasetSummary
from l2s_core.report.failures import FailuresSummary
from l2s_core.report.forms import FormRow
from l2s_core.report.leaderboard import LeaderboardRow
from l2s_core.report.scores import Scores


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures of a run, and what a reader needs beside them.

    `forms` are empty for a benchmark of one form of prompts, `dataset` is None for a benchmark alone.
    """

    config: RunConfig
    run: RunSummary
    scores: Scores
    leaderboard: tuple[LeaderboardRow, ...]
    failures: FailuresSummary
    forms: tuple[FormRow, ...]
    published: PublishedBeside
    dataset: DatasetSummary | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; `read_summary` reads the figures of the run from it."""
        return {
            **self.run.to_json(),
            "config": self.config.model_dump(mode="json"),
            **({} if self.dataset is None else asdict(self.dataset)),
            **self.scores.to_json(),
            "leaderboard": [row.to_json() for row in self.leaderboard],
            "failures": asdict(self.failures),
            **({"forms": [row.to_json() for row in self.forms]} if self.forms else {}),
            "published": asdict(self.published),
        }
