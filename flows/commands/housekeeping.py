"""Commands about the folder of runs: what is there, and what can go."""

from __future__ import annotations

from pathlib import Path

import click

from flows.environment import prepare
from flows.options import home_option


@click.command()
@home_option
def runs(home: Path) -> None:
    """List the runs of the folder: settings, state, size, headline figures."""
    prepare(home)
    from flows.housekeeping import print_runs

    print_runs(home)


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN]...")
@click.option("--yes", is_flag=True, help="Delete; without it, only say what would go.")
@home_option
def clean(names: tuple[str, ...], yes: bool, home: Path) -> None:
    """Delete outputs that no run depends on; with RUN, an id or a name from `l2s runs`, forget those runs first."""
    prepare(home)
    from flows.housekeeping import clean_home

    clean_home(home, names, delete=yes)
