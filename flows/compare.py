"""What `l2s compare` prints and does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from flows.tables import print_table
from l2s_core.evaluation.statistics.significance import PairedRuns, compare_all
from l2s_core.experiments.verdicts import load_judged
from l2s_core.report.significance_page import TITLES, p_text, page_name, remarks, render_significance, signed_interval
from l2s_core.storage.files import write_text

FOLDER = "compare"  # in the folder of runs
COLUMNS = ("images", "first", "second", "difference (95 %)", "only first", "only second", "p", "p, Holm")


def compare_runs(home: Path, choices: Sequence[str], out: Path | None) -> Path:
    """Compare every two of the chosen runs, print it, and write and return the page."""
    judged = load_judged(home, choices)
    pairs = compare_all({one.label: one.images for one in judged})
    path = out or home / FOLDER / f"{page_name([one.label for one in judged])}.html"
    write_text(path, render_significance(judged, pairs))
    for outcome in pairs[0].outcomes:
        _print_outcome(pairs, outcome)
    _print_cost(pairs)
    for remark in remarks(judged, pairs):
        click.echo(remark)
    click.echo(path)
    return path


def _print_outcome(pairs: Sequence[PairedRuns], outcome: str) -> None:
    rows = []
    for pair in pairs:
        d = pair.outcomes[outcome]
        counts = (
            str(d.count),
            f"{d.first:.2f}",
            f"{d.second:.2f}",
            signed_interval(d),
            str(d.only_first),
            str(d.only_second),
        )
        rows.append((_title(pair), *counts, p_text(d.p), p_text(pair.holm[outcome])))
    click.echo()
    print_table((TITLES[outcome], *COLUMNS), rows)


def _print_cost(pairs: Sequence[PairedRuns]) -> None:
    rows = [(_title(pair), f"{pair.gradients:+.1f}", f"{pair.seconds:+.2f}") for pair in pairs]
    click.echo()
    print_table(("difference in cost", "gradients", "s/image"), rows)
    click.echo()


def _title(pair: PairedRuns) -> str:
    return f"{pair.first} -> {pair.second}"
