"""What `--dry-run` of sweeps and ablations prints: the points, what they share, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from flows.planning import plan
from flows.summary import print_table
from l2s_core.ablations import Ablation
from l2s_core.config import load_run_config
from l2s_core.errors import UserError
from l2s_core.files import read_json
from l2s_core.stages import Stages
from l2s_core.sweep_plan import hours_as_measured, stages_left
from l2s_core.sweeps import Point, SweepConfig, points_of, settings_text
from tasks.rehearsal import last_rehearsal


def print_points(settings: SweepConfig, home: Path) -> None:
    """Print the points of a sweep, the stages they share, and the time and disk of what is left."""
    points = points_of(settings)
    if settings.search is not None:
        click.echo(f"{settings.name}: a search of {settings.search.trials} points by {settings.metric}; each is planned when its turn comes")
        return
    click.echo(f"{settings.name}: {len(points)} points of {settings.config}, ranked by {settings.metric}\n")
    _print_left(_planned(settings.config, points, home), settings.config, home)


def print_ablations(ablations: Sequence[Ablation], home: Path) -> None:
    """Print the points of ablations and why others are left out, the stages that all of them share, and what is left of those."""
    planned: list[Stages] = []
    for ablation in ablations:
        click.echo(f"{ablation.sweep.name}: {ablation.config.title}")
        planned += _planned(ablation.sweep.config, ablation.points, home)
        for label, reason in ablation.left_out.items():
            click.echo(f"left out  {label}: {reason}")
        click.echo()
    click.echo(f"{len(planned)} points of {len(ablations)} ablations")
    _print_left(planned, ablations[0].sweep.config, home)


def _planned(config: str, points: Sequence[Point], home: Path) -> list[Stages]:
    """Print a line a point; return the stages of those that can run."""
    planned = []
    for point in points:
        values = f" ({settings_text(point.varied)})" if point.name and point.varied else ""
        try:
            planned.append(plan(config, point.overrides, home))
            click.echo(f"{point.point_id}  {point.label}{values}")
        except UserError as error:
            click.echo(f"{point.point_id}  {point.label}{values}: cannot run, {error}")
    return planned


def _print_left(planned: Sequence[Stages], config: str, home: Path) -> None:
    rows = stages_left(planned, last_rehearsal(home, load_run_config(config)))
    click.echo()
    known = [row for row in rows if row.hours is not None]
    print_table(
        ("stage", "points", "different", "there", "hours at most", "MB"),
        [
            (r.stage, str(r.wanted), str(r.distinct), str(r.there), *(("?", "?") if r.hours is None else (f"{r.hours:.2f}", f"{r.bytes / 1e6:.0f}")))
            for r in rows
        ],
    )
    if known:
        click.echo(f"\nat most {sum(r.hours for r in known):.2f} h without the training, {sum(r.bytes for r in known) / 1e6:.0f} MB")
    else:
        click.echo(f"\n'l2s rehearse {config}' measures what an evaluation costs here; then this says hours and MB")
    report = home / "reports" / Path(config).stem / "summary.json"
    if report.is_file() and planned:
        hours = hours_as_measured(rows, len(planned[0].items), read_json(report))
        click.echo(f"training and images at the speed of the last report of {Path(config).stem}: about {hours:.2f} h")
