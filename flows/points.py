"""The points of a sweep: run each, whatever becomes of those before, and say what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from flows.interrupt import last_words
from flows.progress import followed
from flows.session import Pruned, running
from flows.stages import build_dataset, sample_and_judge, train_classifiers
from flows.standing import Standing
from l2s_core.classifier.experiment import ClassifierResult, load_result
from l2s_core.config import MAIN
from l2s_core.errors import masked
from l2s_core.experiments.sweeps import Point, PointResult, PointState, SweepConfig
from l2s_core.planning.pace import dataset_stages, image_stages
from l2s_core.report.comparison import point_quality, point_summary
from l2s_core.report.ranking import point_metrics
from tasks.tracking.sweep_run import SweepRun


def run_points(
    settings: SweepConfig, points: Sequence[Point], home: Path, tracking: SweepRun, rebuild: bool
) -> list[PointResult]:
    """Run points one after the other, whatever becomes of those before; return what became of each."""
    standing = Standing(settings, len(points))
    with stoppable(tracking, tracking.run_id):
        for point in points:
            with standing.at(point):
                run_id = tracking.start(point)
                standing.results.append(attempt(settings, point, home, tracking, run_id, rebuild))
    return standing.results


@contextmanager
def stoppable(tracking: SweepRun, run_id: str) -> Iterator[None]:
    """Have a run of MLflow end as KILLED when the block is stopped.

    That holds even where the process ends without unwinding the block.
    """
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
    before_images: Callable[[ClassifierResult], None] = lambda _: None,
) -> PointResult:
    """Run one point under its MLflow run and return what became of it.

    `before_images` gets the classifier's result before any image is sampled; it may raise Pruned.
    """
    try:
        with (
            stoppable(tracking, run_id),
            running("sweep", settings.config, point.overrides, home, varied=point.varied) as (run, conclude),
        ):
            with followed([*dataset_stages(run), *image_stages(run)]) as progress:
                folders = train_classifiers(run, build_dataset(run, rebuild, progress), rebuild, progress)
                tracking.show_classifier(run_id, run)
                before_images(load_result(folders[0]))
                sample_and_judge(run, rebuild, progress)
            summary, picture = point_summary(run)
            quality = point_quality(run)
            conclude(summary)
    except Pruned:
        tracking.fail(run_id, "pruned", state="KILLED")
        return PointResult.of(point, PointState.PRUNED)
    except Exception as error:
        reason = masked(" ".join(str(error).split())) or type(error).__name__
        click.echo(f"point {point.point_id} failed: {reason}", err=True)
        tracking.fail(run_id, reason)
        return PointResult.of(point, PointState.FAILED, reason=reason)
    metrics = point_metrics(summary) | quality
    tracking.succeed(run_id, metrics, picture)
    verdicts = str(run.paths.verdicts(MAIN).relative_to(run.home))
    return PointResult.of(point, PointState.FINISHED, metrics=metrics, verdicts=verdicts)
