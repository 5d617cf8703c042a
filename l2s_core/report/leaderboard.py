"""Every method, the most accurate first, and whether it differs from the run's own steering by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from l2s_core.config import MAIN
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.metrics.kid import KID
from l2s_core.evaluation.metrics.quality import Quality
from l2s_core.evaluation.run_summary import MethodRow
from l2s_core.evaluation.statistics.aggregate import MeanScore, Rate
from l2s_core.evaluation.statistics.significance import ALPHA, compare_to

OF_SOME = ("single_relations", "lenient", "score")  # protocols alone


@dataclass(frozen=True, kw_only=True)
class AgainstMain:
    """A method held against the run's own steering, paired on prompt and noise.

    `difference` is the method's rate of correct images minus that of the steering, `low` to `high` its bootstrap
    interval by prompt. `only_main` and `only_this` count images that only one of the two has right. `p` is the
    sign-flip test's by prompt and `holm` corrects it for all these comparisons. `differs` says that `holm` is below
    0.05.
    """

    difference: float
    low: float
    high: float
    only_main: int
    only_this: int
    p: float
    holm: float
    differs: bool


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """A method on the leaderboard: figures of its `MethodSummary`, and what it changes.

    `kid_change` is None where it is not known, `against_main` for the run's own steering. Nothing but `seconds` and
    `peak_bytes` depends on the machine.
    """

    name: str
    label: str
    correct: Rate
    all_found: Rate
    extra: Rate
    gradients: float
    checks: float
    seconds: float
    peak_bytes: int | None
    single_relations: Rate | None = None
    lenient: Rate | None = None
    score: MeanScore | None = None
    kid_change: KID | None = None
    against_main: AgainstMain | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; what the protocol does not have is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None or key not in OF_SOME}


def leaderboard(
    rows: Sequence[MethodRow],
    verdicts: Mapping[str, Sequence[JudgedImage]],
    quality: Mapping[str, Quality] | None,
) -> tuple[LeaderboardRow, ...]:
    """Return the rows of a run in the order of a leaderboard; equal rates go by fewer gradient evaluations."""
    against = against_main(verdicts)
    ordered = sorted(rows, key=lambda row: (-row.summary.correct.rate, row.summary.gradients))
    return tuple(_row(row, (quality or {}).get(row.name), against.get(row.name)) for row in ordered)


def _row(row: MethodRow, quality: Quality | None, against: AgainstMain | None) -> LeaderboardRow:
    summary = row.summary
    return LeaderboardRow(
        name=row.name,
        label=row.label,
        correct=summary.correct,
        all_found=summary.all_found,
        extra=summary.extra,
        gradients=summary.gradients,
        checks=summary.checks,
        seconds=summary.seconds,
        peak_bytes=summary.peak_bytes,
        single_relations=summary.single_relations,
        lenient=summary.lenient,
        score=summary.score,
        kid_change=None if quality is None else quality.kid_change,
        against_main=against,
    )


def against_main(verdicts: Mapping[str, Sequence[JudgedImage]]) -> dict[str, AgainstMain]:
    """Compare every other method with the run's own steering, by method."""
    others = {method: rows for method, rows in verdicts.items() if method != MAIN}
    return {
        method: AgainstMain(
            difference=d.difference,
            low=d.low,
            high=d.high,
            only_main=d.only_first,
            only_this=d.only_second,
            p=d.p,
            holm=p,
            differs=p < ALPHA,
        )
        for method, (d, p) in compare_to(verdicts[MAIN], others, "correct").items()
    }
