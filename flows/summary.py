"""What a command prints at its end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from flows.changes import LastRun
from flows.environment import HOME
from flows.tables import print_table
from l2s_core.classifier.experiment import load_result
from l2s_core.evaluation.run_summary import RunSummary
from l2s_core.evaluation.statistics.aggregate import Rate
from l2s_core.experiments.sweeps import PointResult, PointState, SweepConfig, rank
from l2s_core.planning.measured import Rehearsal
from l2s_core.report.ablation_table import AblationTable, AgainstReference, PointFigures
from l2s_core.report.comparison import report_files
from l2s_core.storage.run_paths import REPORTS
from tasks.rehearsal import rehearsal_file


def print_summary(summary: RunSummary, home: Path, against: tuple[LastRun, Sequence[str]] | None = None) -> None:
    """Print the table of plain and steered sampling, the classifiers, where the report lies and what to do next.

    `against` is the last run of the configuration, and what changed since.
    """
    _print_rates(summary)
    click.echo()
    results = {name: classifier.result for name, classifier in summary.classifiers.items()}
    _print_tests({name: result.test for name, result in results.items() if result is not None})
    click.echo()
    if against is not None:
        last, changed = against
        click.echo(f"against the last run, {last.run_id}, begun {last.started}:")
        for line in changed:
            click.echo(f"  {line}")
        click.echo()
    for path in report_files(home / REPORTS / summary.name):
        click.echo(path)
    own = "" if home == HOME else f" --home {shlex.quote(str(home))}"
    click.echo(f"\nin a browser: the report is one file; 'l2s ui{own}' shows this run beside others in MLflow")


def print_benchmark(summary: RunSummary, files: Sequence[Path]) -> None:
    """Print the table of a benchmark and its files."""
    _print_rates(summary)
    click.echo()
    for path in files:
        click.echo(path)


def _print_rates(summary: RunSummary) -> None:
    count = summary.plain.summary.correct.count
    click.echo(f"\n{summary.name}: {count} images each, 95 % intervals\n")
    rows = [
        (
            row.label,
            _rate(row.summary.correct),
            _rate(row.summary.all_found),
            f"{row.summary.gradients:.1f}",
            f"{row.summary.seconds:.2f}",
            f"{row.time_ratio:.1f}x",
        )
        for row in summary.rows
    ]
    print_table(("", "relation correct", "all objects", "gradients", "s/image", "time"), rows)


def print_rehearsal(result: Rehearsal, home: Path) -> None:
    """Print what a rehearsal measured and what it means for the run."""
    kind = "random weights" if result.random else "its own weights"
    click.echo(
        f"\n{result.name}, {result.scale} size, {kind} of {result.weights / 1e9:.2f} GB, "
        f"{result.dtype}, {result.device}\n"
    )
    rows = [(r.operation, r.unit, f"{r.seconds:.4f}", f"{r.peak_bytes / 2**30:.2f}") for r in result.measured]
    print_table((f"operation, {result.images} images at once", "a", "seconds", "peak GiB"), rows)
    if result.hours:
        parts = (f"{stage} up to {hours:.2f} h" for stage, hours in result.hours.items())
        click.echo(f"\nthe whole run: {', '.join(parts)}")
    click.echo(f"\n{rehearsal_file(home, result.name, result.scale)}")


def print_ranking(settings: SweepConfig, results: Sequence[PointResult], files: Sequence[Path]) -> None:
    """Print a sweep's points, the best first, then those without a result."""
    ranked = rank(results, settings.metric)
    click.echo(f"\n{settings.name}: {len(ranked)} of {len(results)} points, the best by {settings.metric} first\n")
    figures = ("correct", "all_found", "test_accuracy", "gradients", "seconds")
    print_table(("point", *figures), [(one.label, *(f"{one.metrics[key]:.3f}" for key in figures)) for one in ranked])
    for result in results:
        if result.state != PointState.FINISHED:
            click.echo(f"{result.label}: {result.state} {result.reason}")
    click.echo()
    for path in files:
        click.echo(path)


def print_ablation_tables(tables: Sequence[AblationTable], files: Sequence[Path]) -> None:
    """Print every ablation's points beside the reference, then those without a result.

    A star marks a difference that chance does not explain.
    """
    for table in tables:
        click.echo(f"\n{table.title}: {table.question}\n")
        rows = [
            (
                row.label,
                _rate(row.figures.correct),
                _against(row.difference),
                _rate(row.figures.all_found),
                _kid(row.figures),
                f"{row.figures.gradients:.1f}",
                f"{row.figures.seconds:.2f}",
                " ".join(f"{rate:.2f}" for rate in row.figures.correct_by_seed),
            )
            for row in table.rows
            if row.figures is not None
        ]
        heads = ("", "relation correct", "difference", "all objects", "KID x 1000", "gradients", "s/image", "by seed")
        print_table(*_without_empty_columns(heads, rows))
        for row in table.rows:
            if row.figures is None:
                click.echo(f"{row.label}: {row.state} {row.reason}")
    click.echo()
    for path in files:
        click.echo(path)


def _without_empty_columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    kept = [place for place in range(len(heads)) if any(row[place] for row in rows)]
    return [heads[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _kid(figures: PointFigures) -> str:
    if figures.kid_change is None or figures.kid_error is None:
        return ""
    return f"{1000 * figures.kid_change:+.1f} ± {1000 * figures.kid_error:.1f}"


def _against(difference: AgainstReference | None) -> str:
    return f"{difference.rate:+.2f}{' *' if difference.marked else '  '}" if difference else ""


def print_official(rates: Mapping[str, Rate]) -> None:
    """Print what GenEval's own scorer says, by task."""
    print_table(
        ("GenEval's scorer", "images", "correct"),
        [(tag, str(rate.count), _rate(rate)) for tag, rate in rates.items()],
    )


def print_classifiers(folders: Mapping[str, Path]) -> None:
    """Print the test accuracy of trained classifiers and where they lie."""
    _print_tests({name: load_result(folder).test for name, folder in folders.items()})
    click.echo()
    for name, folder in folders.items():
        click.echo(f"{name}: {folder}")


def _print_tests(tests: Mapping[str, Mapping[str, float]]) -> None:
    rows = [
        (
            name,
            *(
                f"{test[f'accuracy{part}']:.3f}" if f"accuracy{part}" in test else "-"
                for part in ("", "_true_prompts", "_wrong_prompts")
            ),
        )
        for name, test in tests.items()
    ]
    print_table(("classifier", "test accuracy", "true prompts", "wrong prompts"), rows)


def _rate(rate: Rate) -> str:
    return f"{rate.rate:.2f} ({rate.low:.2f}-{rate.high:.2f})"
