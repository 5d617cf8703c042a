"""Commands that run experiments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from flows.environment import HOME
from flows.options import (
    Where,
    dataset_options,
    home_option,
    overrides_of,
    quick_option,
    rebuild_option,
    runner_options,
    set_option,
    start,
    waiting,
    with_config,
)

classifier_option = click.option(
    "--classifier",
    metavar="PLACE",
    help="A classifier: a folder, models:/NAME@ALIAS or runs:/ID of MLflow, a hub id. [default: the shipped one]",
)


STARTING = "settings, models and data are in order; starting Prefect"
LAST_SEED = 2**48 - 65  # seeds of noise are below 2**48, and a command takes at most 64 of them
LONGEST_NAME = 200  # bytes of a file's name: 255 less what a temporary one beside it adds


@click.command()
@dataset_options
@runner_options
def reproduce(home: Path, **settings: Any) -> None:
    """Run the whole chain and write the report. CONFIG is a name in configs/ or a YAML file."""
    start(home)
    from flows.changes import changes, last_run
    from flows.reproduce import reproduce as flow
    from flows.summary import print_summary
    from l2s_core.config import load_run_config

    overrides = overrides_of(settings["settings"], settings["quick"], settings["config"])
    config = load_run_config(settings["config"], overrides)
    last = last_run(home, config.name)
    summary = _run(flow, home, **settings).run
    against = None if last is None else (last, changes(last, config.model_dump(mode="json"), summary))
    print_summary(summary, home, against)


@click.command()
@dataset_options
@runner_options
def train(home: Path, **settings: Any) -> None:
    """Build the attention dataset and train the run's classifiers."""
    start(home)
    from flows.reproduce import train as flow
    from flows.summary import print_classifiers

    print_classifiers(_run(flow, home, **settings))


def _run(
    flow: Any, home: Path, config: str, settings: tuple[str, ...], quick: bool, rebuild: bool, where: Where
) -> Any:
    """Run a flow over a dataset on the wanted runner and return what it returns."""
    from flows.planning import plan
    from flows.runners import load_runner, on

    overrides = overrides_of(settings, quick, config)
    runner = load_runner(*where)
    with waiting("checking settings, models and data"):
        plan(config, overrides, home)  # mistakes show at once, before Prefect starts
    click.echo(STARTING, err=True)
    with on(flow, runner) as run:
        return run(config, overrides, home, rebuild)


@click.command()
@with_config
@classifier_option
@set_option
@quick_option
@rebuild_option
@home_option
def benchmark(
    config: str, classifier: str | None, settings: tuple[str, ...], quick: bool, rebuild: bool, home: Path
) -> None:
    """Benchmark an existing classifier: plain against steered, without building a dataset."""
    start(home)
    from flows.benchmark import benchmark as flow
    from flows.planning import plan
    from flows.summary import print_benchmark
    from l2s_core.interface.classifiers import classifier_folder

    overrides = overrides_of(settings, quick, config)
    given = None if classifier is None else classifier_folder(classifier, home)
    with waiting("checking settings, models and data"):
        plan(config, overrides, home, given)
    click.echo(STARTING, err=True)
    report, files = flow(config, given, overrides, home, rebuild)
    print_benchmark(report.run, files)


def _png(_ctx: click.Context, _parameter: click.Parameter, out: Path) -> Path:
    """Return the file to write; raises UserError for one that would hold something else than its name says."""
    from l2s_core.errors import UserError

    if out.suffix.lower() != ".png" or len(os.fsencode(out.name)) > LONGEST_NAME:
        raise UserError(f"--out is {str(out)!r}; give a name that ends in .png, of at most {LONGEST_NAME} characters")
    return out


@click.command()
@click.argument("prompt")
@click.option("--seeds", type=click.IntRange(1, 64), default=4, show_default=True, help="How many images.")
@click.option(
    "--first-seed", type=click.IntRange(0, LAST_SEED), default=0, show_default=True, help="Seeds count up from here."
)
@click.option("--config", default="mini-sd", show_default=True, help="Backbone and steering settings.")
@classifier_option
@set_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("steered.png"),
    show_default=True,
    callback=_png,
    help="The PNG to write.",
)
def generate(
    prompt: str, seeds: int, first_seed: int, config: str, classifier: str | None, settings: tuple[str, ...], out: Path
) -> None:
    """Make images of PROMPT, plain and steered from the same noise, side by side in one PNG."""
    start(HOME)
    from flows.generate import generate as make

    make(prompt, range(first_seed, first_seed + seeds), config, classifier, overrides_of(settings), out)
