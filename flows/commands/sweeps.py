"""The command that runs sweeps."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from flows.options import (
    Where,
    home_option,
    overrides_of,
    quick_option,
    rebuild_option,
    runner_options,
    set_option,
    start,
)


@click.command()
@click.argument("configs", nargs=-1, required=True, metavar="SWEEP...")
@click.option("--dry-run", is_flag=True, help="List the points, what they share, and what time and disk they need.")
@quick_option
@set_option
@rebuild_option
@home_option
@runner_options
def sweep(
    configs: tuple[str, ...],
    dry_run: bool,
    quick: bool,
    settings: tuple[str, ...],
    rebuild: bool,
    home: Path,
    where: Where,
) -> None:
    """Run the points of SWEEP, a name in configs/sweeps or a YAML file, and rank them; an interrupted one goes on.

    Several sweeps run one after the other. One that fails does not stop the rest; the exit code says so.
    """
    start(home)
    from l2s_core.experiments.sweeps import find_sweep, load_sweep, point

    overrides = {config: overrides_of(settings, quick, str(find_sweep(config))) for config in configs}
    sweeps = {config: load_sweep(config, overrides[config]) for config in configs}
    if dry_run:
        from flows.dry_run import print_points

        for loaded in sweeps.values():
            print_points(loaded, home)
        return
    from flows.planning import plan
    from flows.runners import load_runner, on
    from flows.summary import print_ranking
    from flows.sweep import sweep as flow
    from l2s_core.errors import UserError

    runner = load_runner(*where)
    failed: list[str] = []
    for config, loaded in sweeps.items():
        with _outlived(config, sweeps, failed):
            plan(loaded.config, point(loaded, {}).overrides, home)  # mistakes of every point show at once
    for config in [config for config in sweeps if config not in failed]:
        with _outlived(config, sweeps, failed), on(flow, runner) as run:
            print_ranking(sweeps[config], *run(config, overrides[config], home, rebuild))
    if failed:
        raise UserError(
            f"{len(failed)} of {len(sweeps)} sweeps failed: {', '.join(failed)}; the same command goes on with them"
        )


@contextmanager
def _outlived(config: str, sweeps: Collection[str], failed: list[str]) -> Iterator[None]:
    """Note and print the failure of one of several sweeps; that of a single one is raised."""
    try:
        yield
    except Exception as error:
        if len(sweeps) == 1:
            raise
        click.echo(f"sweep {config} failed: {error}", err=True)
        failed.append(config)
