"""Images out to GenEval's own scorer, its results back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flows.options import Command, home_option, overrides_of, quick_option, set_option, start

METHOD = click.option(
    "--method",
    default="main",
    show_default=True,
    help="Method of sampling: plain, main, a further classifier or method.",
)
CLASSIFIER = click.option(
    "--classifier", type=click.Path(path_type=Path), help="Of a run of 'l2s benchmark': its classifier's folder."
)


def _run_options(command: Command) -> Command:
    for option in (home_option, quick_option, set_option, CLASSIFIER, METHOD):
        command = option(command)
    return command


@click.group()
def geneval() -> None:
    """Exchange images and verdicts with GenEval's own scorer."""


@geneval.command("export")
@click.argument("config")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_run_options
def export_(config: str, folder: Path, **settings: Any) -> None:
    """Write the images of CONFIG's finished benchmark into FOLDER as GenEval's scorer reads them."""
    run, method = _run_of(config, **settings)
    from l2s_core.evaluation.official import export_images

    count = export_images(run, method, folder)
    click.echo(f"{count} new images of {len(run.items)} in {folder}")


@geneval.command("import")
@click.argument("config")
@click.argument("results", type=click.Path(path_type=Path, dir_okay=False))
@_run_options
def import_(config: str, results: Path, **settings: Any) -> None:
    """Read RESULTS, the results.jsonl of GenEval's scorer.

    The next report of CONFIG shows it beside our own judge's.
    """
    run, method = _run_of(config, **settings)
    from flows.summary import print_official
    from l2s_core.evaluation.official import import_results

    print_official(import_results(run, method, results))


def _run_of(
    config: str, method: str, classifier: Path | None, settings: tuple[str, ...], quick: bool, home: Path
) -> tuple[Any, str]:
    """Return the run that the options describe, and the method."""
    start(home)
    from flows.planning import plan

    return plan(config, overrides_of(settings, quick, config), home, classifier), method
