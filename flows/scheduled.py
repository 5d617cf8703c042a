"""The flow that a schedule runs: a whole reproduction, held against the deployment's accepted figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.environment import HOME, prepare

prepare()

from prefect import flow  # noqa: E402
from prefect.artifacts import create_table_artifact  # noqa: E402
from prefect.runtime import deployment, flow_run  # noqa: E402

from flows.session import running  # noqa: E402
from flows.stages import whole_chain  # noqa: E402
from flows.workspace import RUNNER  # noqa: E402
from l2s_core.experiments.regression import (  # noqa: E402
    Comparison,
    Gate,
    Measured,
    compare,
    load_gate,
    save_gate,
)
from l2s_core.report.summary import Report  # noqa: E402
from tasks.tracking.deployment_run import log_night  # noqa: E402


class Regression(Exception):
    """Figures of a scheduled reproduction lie outside the tolerance, or are of other settings."""


@flow(name="scheduled-reproduction", task_runner=RUNNER)
def scheduled(
    config: str = "mini-sd",
    overrides: dict[str, Any] | None = None,
    fresh: bool = True,
    home: Path = HOME,
    rebuild: bool = False,
) -> Report:
    """Reproduce, and fail when the figures lie outside `tolerance` of the deployment's accepted ones.

    So does a run of other settings than theirs, with the differences, until `l2s accept DEPLOYMENT`. The first run's
    are accepted. Returns the report.

    Args:
        config: A name in configs/, or a file of your own.
        overrides: Settings by dotted key, which win over the configuration's, e.g. {"data.train": 50}.
        fresh: Compute everything anew instead of reusing finished stages; a retry of the same flow run goes on where
            it was.
        home: The folder of runs.
        rebuild: Write damaged outputs anew instead of stopping at them.
    """
    name = deployment.name or config
    with running("scheduled", config, overrides, home, cache_salt=str(flow_run.id) if fresh else "") as (
        run,
        conclude,
    ):
        gate = load_gate(run.home, name)  # what cannot be read shows before any work
        report = whole_chain(run, rebuild, conclude)
        latest = Measured.of(run.paths, report.run)
        save_gate(run.home, name, Gate(accepted=gate.accepted if gate else latest, latest=latest))
        rows = compare(latest.figures, (gate.accepted if gate else latest).figures, run.config.tolerance)
        changed = gate.accepted.differences(latest) if gate else []
        _show(name, rows, changed, first=gate is None)
        log_night(run, name, rows)
        _hold(name, rows, changed)
    return report


def _show(name: str, rows: list[Comparison], changed: list[str], *, first: bool) -> None:
    """Write the artifact that Prefect's UI shows."""
    table = [
        {
            "figure": r.figure,
            "accepted": round(r.last, 4),
            "now": round(r.now, 4),
            "allowed": r.allowed,
            "inside": "yes" if r.ok else "NO",
        }
        for r in rows
    ]
    against = "the first run, accepted" if first else "against the accepted figures"
    other = f"; settings differ: {'; '.join(changed)}" if changed else ""
    create_table_artifact(table, key="regression", description=f"{name}: {against}{other}")


def _hold(name: str, rows: list[Comparison], changed: list[str]) -> None:
    """Raise for other settings, and for figures outside the tolerance."""
    way_out = f"The accepted figures stay; 'l2s accept {name}' accepts these"
    if changed:
        raise Regression(f"{name}: settings differ from those of the accepted figures: {'; '.join(changed)}. {way_out}")
    outside = [row for row in rows if not row.ok]
    if outside:
        raise Regression(f"{name}: {'; '.join(map(_sentence, outside))}. {way_out}")


def _sentence(row: Comparison) -> str:
    return f"{row.figure} was {row.last:.3f}, is {row.now:.3f}, allowed is a difference of {row.allowed:.3f}"
