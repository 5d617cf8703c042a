"""Every method, the most accurate first, and whether it differs from the run's own steering by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l2s_core.config import MAIN
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.statistics.significance import ALPHA, compare_to

FIGURES = ("name", "label", "correct", "all_found", "extra", "gradients", "checks", "seconds", "peak_bytes")
OF_SOME = ("single_relations", "score")  # protocols alone


def leaderboard(
    rows: Sequence[Mapping[str, Any]],
    verdicts: Mapping[str, Sequence[JudgedImage]],
    quality: Mapping[str, Mapping[str, Any]] | None,
) -> list[dict[str, Any]]:
    """Return the rows of `table_rows` in the order of a leaderboard; equal rates go by fewer gradient evaluations.

    Each gains `kid_change`, None where it is not known, and `against_main`, None for the run's own steering. Nothing
    but `seconds` and `peak_bytes` depends on the machine.
    """
    against = against_main(verdicts)
    quality = quality or {}
    return [
        {key: row[key] for key in (*FIGURES, *OF_SOME) if key in row or key in FIGURES}
        | {"kid_change": quality.get(row["name"], {}).get("kid_change"), "against_main": against.get(row["name"])}
        for row in sorted(rows, key=lambda row: (-row["correct"]["rate"], row["gradients"]))
    ]


def against_main(verdicts: Mapping[str, Sequence[JudgedImage]]) -> dict[str, dict[str, Any]]:
    """Compare every other method with the run's own steering, paired on prompt and noise: JSON-able, by method.

    `difference` is the method's rate of correct images minus that of the steering, `low` to `high` its bootstrap
    interval by prompt; `p` is the sign-flip test's by prompt and `holm` corrects it for all these comparisons.
    `differs` says that `holm` is below 0.05.
    """
    others = {method: rows for method, rows in verdicts.items() if method != MAIN}
    return {
        method: {
            "difference": d.difference,
            "low": d.low,
            "high": d.high,
            "only_main": d.only_first,
            "only_this": d.only_second,
            "p": d.p,
            "holm": p,
            "differs": p < ALPHA,
        }
        for method, (d, p) in compare_to(verdicts[MAIN], others, "correct").items()
    }
