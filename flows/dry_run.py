"""What `l2s sweep --dry-run` prints: the points, what they share, and what is left."""

from __future__ import annotations

from pathlib import Path

import click

from flows.planning import plan
from flows.summary import print_table
from l2s_core.errors import UserError
from l2s_core.sweep_plan import stages_left
from l2s_core.sweeps import SweepConfig, points_of
from tasks.rehearsal import last_rehearsal


def print_points(settings: SweepConfig, home: Path) -> None:
    """Print the points of a sweep, the stages they share, and the time and disk of what is left."""
    points = points_of(settings)
    if settings.search is not None:
        click.echo(f"{settings.name}: a search of {settings.search.trials} points by {settings.metric}; each is planned when its turn comes")
        return
    click.echo(f"{settings.name}: {len(points)} points of {settings.config}, ranked by {settings.metric}\n")
    planned = []
    for point in points:
        try:
            planned.append(plan(settings.config, point.overrides, home))
            click.echo(f"{point.point_id}  {point.label}")
        except UserError as error:
            click.echo(f"{point.point_id}  {point.label}: cannot run, {error}")
    rows = stages_left(planned, last_rehearsal(home, Path(settings.config).stem))
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
        click.echo(f"\n'l2s rehearse {settings.config}' measures what an evaluation costs here; then this says hours and MB")
