"""Exchange with other programs: images out to GenEval's own scorer and its results back, classifiers in."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from flows.environment import HOME, prepare
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


@click.command("import-classifier")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--config", required=True, help="The configuration whose maps it reads, e.g. sd21.")
@click.option(
    "--out", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="The classifier's folder."
)
@click.option(
    "--names",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON: a tensor's name to ours, or to null; for those that are not called as in the paper's code.",
)
@click.option(
    "--labels",
    metavar="LABEL,LABEL,...",
    help="In the order of its logits. [default: the file's metadata, or the order of the alphabet]",
)
@set_option
def import_classifier(
    file: Path, config: str, folder: Path, names: Path | None, labels: str | None, settings: tuple[str, ...]
) -> None:
    """Make a classifier's folder of FILE, safetensors in the layout of the paper's code."""
    prepare(HOME)
    from flows.environment import quiet_libraries
    from l2s_core.classifier.published import import_published
    from l2s_core.config import load_run_config

    quiet_libraries()
    run = load_run_config(config, overrides_of(settings))
    listed = None if labels is None else [label.strip() for label in labels.split(",")]
    source = import_published(file, folder, run, names=names, labels=listed)
    click.echo(f"a classifier of {source.channels} maps at steps {', '.join(map(str, source.steps))} in {folder}")
    again = shlex.join(["l2s", "benchmark", config, "--classifier", str(folder), *_as_given(settings)])
    click.echo(f"benchmark it with: {again}")


def _as_given(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]
