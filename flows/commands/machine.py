"""Commands about this machine and its models: doctor, rehearse, pretrain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from flows.environment import prepare
from flows.options import home_option, overrides_of, set_option, start, with_config


@click.command()
@with_config
@set_option
@home_option
def doctor(config: str, settings: tuple[str, ...], home: Path) -> None:
    """Say whether a run can work here, and what memory, disk and time it needs; exit code 0 or 1."""
    prepare(home)
    from flows.doctor import doctor as look
    from flows.environment import quiet_libraries

    quiet_libraries()
    sys.exit(0 if look(config, overrides_of(settings), home) else 1)


@click.command()
@with_config
@click.option(
    "--scale",
    type=click.Choice(["full", "tiny"]),
    default="full",
    show_default=True,
    help="The real size, or a tiny model of the same shape.",
)
@click.option("--images", type=click.IntRange(1), default=2, show_default=True, help="How many images at once.")
@set_option
@home_option
def rehearse(config: str, scale: Literal["full", "tiny"], images: int, settings: tuple[str, ...], home: Path) -> None:
    """Measure time and memory of every stage on random weights of the run's real architecture."""
    start(home)
    from flows.rehearse import rehearse as flow
    from flows.summary import print_rehearsal
    from l2s_core.config import load_run_config

    overrides = overrides_of(settings)
    load_run_config(config, overrides)
    print_rehearsal(flow(config, overrides, scale, images, home), home)


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option(
    "--model", "config", default="mini-sd", show_default=True, help="mini-sd (and mini-seg), mini-flux, or a YAML file."
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@home_option
def pretrain(work: Path, config: str, device: str, home: Path) -> None:
    """Train the small world's models from a seed; checkpoints, sample grids and models land in WORK."""
    start(home)
    from flows.pretrain import pretrain as flow

    click.echo(f"models: {flow(work, device, home, config)}")
