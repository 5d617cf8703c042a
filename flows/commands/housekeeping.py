"""Commands about the folder of runs: what is there, and what can go."""

from __future__ import annotations

from pathlib import Path

import click

from flows.environment import prepare
from flows.options import home_option

STATES = ("running", "finished", "failed", "stopped", "killed", "pruned")


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN]...")
@click.option("--state", type=click.Choice(STATES), help="Those alone that are in this state.")
@click.option("--config", help="Those alone of this name.")
@click.option("--json", "as_json", is_flag=True, help="The records themselves, as JSON.")
@home_option
def runs(names: tuple[str, ...], state: str | None, config: str | None, as_json: bool, home: Path) -> None:
    """List the runs of the folder: state, model, size, headline figures; with RUN, what there is of that run so far."""
    prepare(home)
    from flows.housekeeping import print_run, print_runs, print_runs_json

    if as_json:
        print_runs_json(home, names, state=state, config=config)
        return
    for name in names:
        print_run(home, name)
    if not names:
        print_runs(home, state=state, config=config)


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN]...")
@click.option("--yes", is_flag=True, help="Delete; without it, only say what would go.")
@home_option
def clean(names: tuple[str, ...], yes: bool, home: Path) -> None:
    """Delete outputs that no run depends on; with RUN, an id or a name from `l2s runs`, forget those runs first."""
    prepare(home)
    from flows.housekeeping import clean_home

    clean_home(home, names, delete=yes)
