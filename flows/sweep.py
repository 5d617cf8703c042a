"""The flow that runs a sweep, point by point; what points share is made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.environment import HOME, prepare

prepare()

from prefect import flow  # noqa: E402
from prefect.artifacts import create_table_artifact  # noqa: E402

from flows.points import run_points  # noqa: E402
from flows.workspace import RUNNER, call_flow_run  # noqa: E402
from l2s_core.errors import UserError  # noqa: E402
from l2s_core.experiments.sweeps import PointResult, SweepConfig, load_sweep, points_of, rank  # noqa: E402
from l2s_core.report.ranking import write_ranking  # noqa: E402
from tasks.tracking.sweep_run import SweepRun  # noqa: E402


@flow(name="sweep", task_runner=RUNNER)
def sweep(
    config: str, overrides: dict[str, Any] | None = None, home: Path = HOME, rebuild: bool = False
) -> tuple[list[PointResult], list[Path]]:
    """Run the points of a sweep; returns what became of each, and the ranking's files.

    A point that fails is recorded and does not stop the rest. A sweep that was stopped goes on: what its points have
    made is reused.

    Args:
        config: A name in configs/sweeps/, or a file of your own.
        overrides: Settings by dotted key that hold for every point, e.g. {"data.train": 50}.
        home: The folder of runs.
        rebuild: Write damaged outputs anew instead of stopping at them.
    """
    settings = load_sweep(config, overrides)
    home = Path(home)
    call_flow_run(f"sweep {settings.name}", settings.name, settings.config, f"by {settings.metric}")
    if settings.search is None:
        tracking = SweepRun(home, settings)
        rows = run_points(settings, points_of(settings), home, tracking, rebuild)
    else:
        tracking, rows = _search(settings, home, rebuild)
    files = write_ranking(home / "sweeps" / settings.name, rows, settings.metric)
    best_first = rank(rows, settings.metric)
    tracking.finish(files, best_first[0] if best_first else None)
    _publish(settings, best_first)
    return rows, files


def _search(settings: SweepConfig, home: Path, rebuild: bool) -> tuple[SweepRun, list[PointResult]]:
    try:
        from flows.search import search
    except ImportError:
        raise UserError("a search needs Optuna; pip install 'learn-to-steer[search]'") from None
    return search(settings, home, rebuild)


def _publish(settings: SweepConfig, best_first: list[PointResult]) -> None:
    table = [
        {
            "rank": number,
            "point": result.label,
            **{key: round(float(value), 4) for key, value in result.metrics.items()},
        }
        for number, result in enumerate(best_first, start=1)
    ]
    create_table_artifact(table, key="ranking", description=f"sweep {settings.name}, by {settings.metric}")
