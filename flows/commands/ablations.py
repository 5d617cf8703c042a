"""The command that runs ablations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
@click.argument("config", default="mini-sd")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--dry-run", is_flag=True, help="List the points, what they share, and what time and disk they need.")
@quick_option
@set_option
@rebuild_option
@home_option
@runner_options
def ablate(
    config: str,
    names: tuple[str, ...],
    dry_run: bool,
    rebuild: bool,
    home: Path,
    where: Where,
    **given: Any,
) -> None:
    """Change one setting of CONFIG at a time and hold each point against CONFIG as it is, on the development suite.

    NAME is an ablation in configs/ablations or a YAML file; without one, all of them run. What was interrupted goes on.
    """
    start(home)
    from l2s_core.experiments.ablations import plan_ablations

    overrides = overrides_of(config=config, **given)
    ablations = plan_ablations(config, names, overrides)
    if dry_run:
        from flows.dry_run import print_ablations

        print_ablations(ablations, home)
        return
    from flows.ablate import ablate as flow
    from flows.planning import plan
    from flows.runners import load_runner, on
    from flows.summary import print_ablation_tables

    runner = load_runner(*where)
    plan(config, ablations[0].points[0].overrides, home)  # mistakes of every point show at once, before Prefect starts
    with on(flow, runner) as run:
        print_ablation_tables(*run(config, names, overrides, home, rebuild))
