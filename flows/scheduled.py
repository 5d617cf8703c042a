"""The flow that a schedule runs: a whole reproduction, held against the last good one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.environment import HOME, prepare

prepare()

from prefect import flow  # noqa: E402
from prefect.artifacts import create_table_artifact  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402

from flows.session import running  # noqa: E402
from flows.stages import whole_chain  # noqa: E402
from flows.workspace import RUNNER  # noqa: E402
from l2s_core.evaluation.run import Run  # noqa: E402
from l2s_core.experiments.regression import (  # noqa: E402
    Comparison,
    Figures,
    compare,
    figures_of,
    load_baseline,
    save_baseline,
)
from l2s_core.report.summary import Report  # noqa: E402
from l2s_core.storage import runs  # noqa: E402


class Regression(Exception):
    """Figures of a scheduled reproduction lie outside the tolerance."""


@flow(name="scheduled-reproduction", task_runner=RUNNER)
def scheduled(
    config: str = "mini-sd",
    overrides: dict[str, Any] | None = None,
    fresh: bool = True,
    home: Path = HOME,
    rebuild: bool = False,
) -> Report:
    """Reproduce, and fail when the figures lie outside `tolerance` of the last good run of the same settings.

    `fresh` computes everything anew instead of reusing finished stages; a retry of the same flow run goes on where
    it was. `rebuild` writes damaged outputs anew. Returns the report.
    """
    with running("scheduled", config, overrides, home, cache_salt=str(flow_run.id) if fresh else "") as (
        run,
        conclude,
    ):
        last = load_baseline(run.home, runs.run_id_of(run.paths))  # what cannot be read shows before any work
        report = whole_chain(run, rebuild, conclude)
        _hold_against(last, run, figures_of(report.run))
    return report


def _hold_against(last: Figures | None, run: Run, figures: Figures) -> None:
    run_id = runs.run_id_of(run.paths)
    rows = compare(figures, last or figures, run.config.tolerance)
    table = [
        {
            "figure": r.figure,
            "last good": round(r.last, 4),
            "now": round(r.now, 4),
            "allowed": r.allowed,
            "inside": "yes" if r.ok else "NO",
        }
        for r in rows
    ]
    title = f"{run_id}: against the last good run" if last else f"{run_id}: the first run, nothing to hold it against"
    create_table_artifact(table, key="regression", description=title)
    outside = [row for row in rows if not row.ok]
    if outside:
        raise Regression(
            f"{run_id}: "
            + "; ".join(map(_sentence, outside))
            + f". The last good figures stay; delete baselines/{run_id}.json to accept these"
        )
    save_baseline(run.home, run_id, figures)


def _sentence(row: Comparison) -> str:
    return f"{row.figure} was {row.last:.3f}, is {row.now:.3f}, allowed is a difference of {row.allowed:.3f}"
