"""The flow that runs a sweep, point by point; what points share is made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.environment import HOME, prepare

prepare()

import click  # noqa: E402
from prefect import flow  # noqa: E402
from prefect.artifacts import create_table_artifact  # noqa: E402

from flows.interrupt import last_words  # noqa: E402
from flows.session import Pruned, running  # noqa: E402
from flows.stages import build_dataset, sample_and_judge, train_classifiers  # noqa: E402
from flows.workspace import RUNNER  # noqa: E402
from l2s_core.classifier.experiment import load_result  # noqa: E402
from l2s_core.errors import UserError  # noqa: E402
from l2s_core.experiments.sweeps import Point, SweepConfig, load_sweep, points_of, rank  # noqa: E402
from l2s_core.report.comparison import point_summary  # noqa: E402
from l2s_core.report.ranking import point_metrics, write_ranking  # noqa: E402
from l2s_core.storage.stages import MAIN  # noqa: E402
from tasks.tracking.sweep_run import SweepRun  # noqa: E402


@flow(name="sweep", task_runner=RUNNER)
def sweep(config: str, home: Path = HOME, rebuild: bool = False) -> tuple[list[dict[str, Any]], list[Path]]:
    """Run the points of configs/sweeps/<config>.yaml, or of a file; returns a row a point and the ranking's files.

    A point that fails is recorded and does not stop the rest. A sweep that was stopped goes on: what its points
    have made is reused. `rebuild` writes damaged outputs anew.
    """
    settings = load_sweep(config)
    home = Path(home)
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


def run_points(
    settings: SweepConfig, points: Sequence[Point], home: Path, tracking: SweepRun, rebuild: bool
) -> list[dict[str, Any]]:
    """Run points one after the other, whatever becomes of those before; return a row a point."""
    with stoppable(tracking, tracking.run_id):
        return [attempt(settings, point, home, tracking, tracking.start(point), rebuild) for point in points]


@contextmanager
def stoppable(tracking: SweepRun, run_id: str) -> Iterator[None]:
    """Have a run of MLflow end as KILLED when the block is stopped, even where the process ends without unwinding it."""
    with last_words(lambda: tracking.stop(run_id)):
        try:
            yield
        except Exception:
            raise
        except BaseException:  # Ctrl-C, or Prefect's own signal that a run is to end
            tracking.stop(run_id)
            raise


def attempt(
    settings: SweepConfig,
    point: Point,
    home: Path,
    tracking: SweepRun,
    run_id: str,
    rebuild: bool,
    before_images: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Run one point under its MLflow run and return its row; `before_images` gets the classifier's result and may raise Pruned."""
    click.echo(f"\npoint {point.point_id}: {point.label}", err=True)
    row = {"label": point.label, "varied": point.varied, "point": point.point_id}
    try:
        with (
            stoppable(tracking, run_id),
            running("sweep", settings.config, point.overrides, home) as (stages, conclude),
        ):
            folders = train_classifiers(stages, build_dataset(stages, rebuild), rebuild)
            before_images(load_result(folders[0]))
            sample_and_judge(stages, rebuild)
            summary, picture = point_summary(stages)
            conclude(summary)
    except Pruned:
        tracking.fail(run_id, "pruned", state="KILLED")
        return {**row, "state": "pruned"}
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        click.echo(f"point {point.point_id} failed: {reason}", err=True)
        tracking.fail(run_id, reason)
        return {**row, "state": "failed", "reason": reason}
    metrics = point_metrics(summary)
    tracking.succeed(run_id, metrics, picture)
    return {
        **row,
        "state": "finished",
        "metrics": metrics,
        "verdicts": str(stages.verdicts(MAIN).relative_to(stages.home)),
    }


def _search(settings: SweepConfig, home: Path, rebuild: bool) -> tuple[SweepRun, list[dict[str, Any]]]:
    try:
        from flows.search import search
    except ImportError:
        raise UserError("a search needs Optuna; pip install 'learn-to-steer[search]'") from None
    return search(settings, home, rebuild)


def _publish(settings: SweepConfig, best_first: list[Mapping[str, Any]]) -> None:
    table = [
        {
            "rank": number,
            "point": row["label"],
            **{key: round(float(value), 4) for key, value in row["metrics"].items()},
        }
        for number, row in enumerate(best_first, start=1)
    ]
    create_table_artifact(table, key="ranking", description=f"sweep {settings.name}, by {settings.metric}")
