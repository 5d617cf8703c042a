"""The command that tells differences between runs from chance."""

from __future__ import annotations

from pathlib import Path

import click

from flows.environment import prepare
from flows.options import home_option


@click.command()
@click.argument("choices", nargs=-1, metavar="RUN[:METHOD]...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page. [default: compare/<names>.html in the folder of runs]",
)
@home_option
def compare(choices: tuple[str, ...], out: Path | None, home: Path) -> None:
    """Say which differences between runs are more than chance, on the prompts and seeds they share.

    RUN is an id or a name from `l2s runs`; METHOD is plain, a classifier or a further method of the run, by default
    its own classifier (main). Every two are compared, the later one against the earlier.
    """
    prepare(home)
    from flows.compare import compare_runs

    compare_runs(home, choices, out)
