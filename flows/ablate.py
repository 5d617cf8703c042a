"""The flow that runs ablations of a configuration: sweeps around it, each held against it in a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.environment import HOME, prepare

prepare()

from prefect import flow  # noqa: E402
from prefect.artifacts import create_table_artifact  # noqa: E402

from flows.planning import plan  # noqa: E402
from flows.points import run_points  # noqa: E402
from flows.workspace import RUNNER, call_flow_run  # noqa: E402
from l2s_core.config import MAIN  # noqa: E402
from l2s_core.experiments.ablations import Ablation, plan_ablations  # noqa: E402
from l2s_core.experiments.sweeps import rank  # noqa: E402
from l2s_core.report.ablation_table import AblationTable  # noqa: E402
from l2s_core.report.ablations import ablation_table, write_ablation  # noqa: E402
from tasks.tracking.sweep_run import SweepRun  # noqa: E402


@flow(name="ablate", task_runner=RUNNER)
def ablate(
    config: str = "mini-sd",
    names: Sequence[str] = (),
    overrides: dict[str, Any] | None = None,
    home: Path = HOME,
    rebuild: bool = False,
) -> tuple[list[AblationTable], list[Path]]:
    """Run the named ablations of a configuration, or all of configs/ablations; returns their tables and the files.

    A point that fails is recorded and does not stop the rest. What was stopped goes on: finished stages are reused.
    `rebuild` writes damaged outputs anew.
    """
    ablations = plan_ablations(config, names, overrides)
    call_flow_run(f"ablations of {ablations[0].run.name}", *(ablation.config.name for ablation in ablations))
    done = [run_ablation(ablation, Path(home), rebuild) for ablation in ablations]
    return [table for table, _ in done], list(dict.fromkeys(path for _, files in done for path in files))


def run_ablation(ablation: Ablation, home: Path, rebuild: bool) -> tuple[AblationTable, list[Path]]:
    """Run the points of one ablation; return its table and the files it is in."""
    sweep = ablation.sweep
    tracking = SweepRun(home, ablation.sweep)
    rows = run_points(sweep, ablation.points, home, tracking, rebuild)
    table = ablation_table(ablation, rows, home)
    files = write_ablation(
        home, ablation, plan(sweep.config, ablation.points[0].overrides, home).paths.verdicts(MAIN).name, table
    )
    best_first = rank(rows, sweep.metric)
    tracking.finish(files, best_first[0] if best_first else None)
    _publish(ablation, table)
    return table, files


def _publish(ablation: Ablation, table: AblationTable) -> None:
    rows = [
        {
            "point": row.label,
            "settings": row.text,
            "correct": round(row.figures.correct.rate, 4),
            "all_found": round(row.figures.all_found.rate, 4),
            "gradients": round(row.figures.gradients, 2),
            "seconds": round(row.figures.seconds, 3),
            "kid_change": row.figures.kid_change,
            "difference": round(row.difference.rate, 4) if row.difference else None,
            "p": row.difference.p if row.difference else None,
        }
        for row in table.rows
        if row.figures is not None
    ]
    create_table_artifact(rows, key=f"ablation-{table.name}", description=f"{ablation.run.name}: {table.title}")
