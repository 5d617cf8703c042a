"""What `--dry-run` of sweeps and ablations prints: the points, what they share, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

from flows.planning import plan
from flows.tables import print_table
from l2s_core.config import RunConfig, load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.run_summary import FILE
from l2s_core.experiments.ablations import Ablation
from l2s_core.experiments.sweeps import Point, SweepConfig, corners_of, points_of, settings_text
from l2s_core.planning.past_run import PastRun, Speed, read_past_run
from l2s_core.planning.stage_kinds import TRAIN
from l2s_core.planning.sweep_plan import StageLeft, hours_as_measured, search_left, stages_left
from l2s_core.storage.run_paths import REPORTS
from tasks.rehearsal import last_rehearsal


def print_points(settings: SweepConfig, home: Path) -> None:
    """Print a sweep's points, the stages they share, and the time and disk of what is left.

    Of a search the figures are an upper bound.
    """
    if settings.search is not None:
        _print_search(settings, settings.search.trials, home)
        return
    points = points_of(settings)
    click.echo(f"{settings.name}: {len(points)} points of {settings.config}, ranked by {settings.metric}\n")
    planned = _planned(settings.config, points, home)
    _print_left(planned, partial(stages_left, planned), settings, home)


def _print_search(settings: SweepConfig, trials: int, home: Path) -> None:
    click.echo(
        f"{settings.name}: a search of {trials} points of {settings.config} by {settings.metric}, between these\n"
    )
    corners = _planned(settings.config, corners_of(settings), home)
    if corners:
        _print_left(corners, partial(search_left, corners, trials), settings, home)


def print_ablations(ablations: Sequence[Ablation], home: Path) -> None:
    """Print the points of ablations, and why others are left out.

    The stages that all of them share follow, with the time and disk of what is left.
    """
    planned: list[Run] = []
    for ablation in ablations:
        click.echo(f"{ablation.sweep.name}: {ablation.config.title}")
        planned += _planned(ablation.sweep.config, ablation.points, home)
        for label, reason in ablation.left_out.items():
            click.echo(f"left out  {label}: {reason}")
        click.echo()
    click.echo(f"{len(planned)} points of {len(ablations)} ablations")
    _print_left(planned, partial(stages_left, planned), ablations[0].sweep, home)


def _planned(config: str, points: Sequence[Point], home: Path) -> list[Run]:
    """Print a line a point; return those that can."""
    planned = []
    for point in points:
        values = f" ({settings_text(point.varied)})" if point.name and point.varied else ""
        try:
            planned.append(plan(config, point.overrides, home))
            click.echo(f"{point.point_id}  {point.label}{values}")
        except UserError as error:
            click.echo(f"{point.point_id}  {point.label}{values}: cannot run, {error}")
    return planned


def _speed(config: RunConfig, past: PastRun | None, home: Path) -> Speed | None:
    """Return what evaluations take here: as rehearsed, else as a finished run of the configuration took them."""
    rehearsal = last_rehearsal(home, config)
    if rehearsal is None:
        return None if past is None else past.speed
    return Speed(prices=rehearsal.prices, training=None if past is None else past.training)


def _base(settings: SweepConfig) -> RunConfig:
    """Return what the points of a sweep have in common, under the name of its configuration."""
    return load_run_config(settings.config, {key: value for key, value in settings.set.items() if key != "name"})


def _past_run(config: RunConfig, home: Path) -> PastRun | None:
    """Return the finished run of a configuration; of a report that cannot be read, say why."""
    try:
        return read_past_run(home / REPORTS / config.name / FILE, config)
    except UserError as error:
        click.echo(f"the last report does not say how fast: {error}")
        return None


def _print_left(
    planned: Sequence[Run],
    left: Callable[[Speed | None], Sequence[StageLeft]],
    settings: SweepConfig,
    home: Path,
) -> None:
    """Print what is `left` of stages at the speed that is known, and the sums."""
    click.echo()
    config = _base(settings)
    past = _past_run(config, home)
    rows = left(_speed(config, past, home))
    print_table(
        ("stage", "wanted", "different", "there", "hours at most", "MB"),
        [
            (
                r.stage,
                str(r.wanted),
                str(r.distinct),
                str(r.there),
                "?" if r.hours is None else f"{r.hours:.2f}",
                "?" if r.bytes is None else f"{r.bytes / 1e6:.0f}",
            )
            for r in rows
        ],
    )
    disk = f"{sum(r.bytes or 0 for r in rows) / 1e6:.0f} MB"
    hours = [r.hours for r in rows if r.hours is not None]
    trained = all(r.hours is not None for r in rows if r.stage == TRAIN)
    if hours:
        click.echo(f"\nat most {sum(hours):.2f} h{'' if trained else ' without the training'}, {disk}")
    else:
        click.echo(
            f"\nat most {disk}; 'l2s rehearse {settings.config}' measures what an evaluation costs here, "
            "then this says hours"
        )
    if past is not None and past.training is not None and planned:
        measured = hours_as_measured(rows, len(planned[0].items), past.summary)
        click.echo(f"training and images at the speed of the last report of {past.config.name}: about {measured:.2f} h")
