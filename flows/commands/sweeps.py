"""The command that runs sweeps."""

from __future__ import annotations

from pathlib import Path

import click

from flows.options import Where, home_option, rebuild_option, runner_options, start


@click.command()
@click.argument("config", metavar="SWEEP")
@click.option("--dry-run", is_flag=True, help="List the points, what they share, and what time and disk they need.")
@rebuild_option
@home_option
@runner_options
def sweep(config: str, dry_run: bool, rebuild: bool, home: Path, where: Where) -> None:
    """Run the points of SWEEP, a name in configs/sweeps or a YAML file, and rank them; an interrupted one goes on."""
    start(home)
    from l2s_core.sweeps import load_sweep, point

    settings = load_sweep(config)
    if dry_run:
        from flows.dry_run import print_points

        print_points(settings, home)
        return
    from flows.planning import plan
    from flows.runners import load_runner, on
    from flows.summary import print_ranking
    from flows.sweep import sweep as flow

    plan(settings.config, point(settings, {}).overrides, home)  # mistakes of every point show at once, before Prefect starts
    with on(flow, load_runner(*where)) as run:
        print_ranking(settings, *run(config, home, rebuild))
