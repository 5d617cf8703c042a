"""The page of a comparison: who differs from whom, by how much, and on which images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l2s_core.evaluation.statistics.aggregate import MethodSummary
from l2s_core.evaluation.statistics.significance import PARTS, RESAMPLES, PairedDifference, PairedRuns
from l2s_core.experiments.verdicts import Judged
from l2s_core.hashing import digest
from l2s_core.report.page import render_page

TEMPLATE = "significance.html"
TITLES = {
    "correct": "relation correct",
    "all_found": "all objects found",
    "score": "soft score",
    "asks_for": "by relation",
    "prompt_group": "by kind of prompt",
}
LONGEST = 120  # characters of a file's name
ForestRow = tuple[
    str, Mapping[str, PairedDifference], bool
]  # label, an interval an outcome, whether it is a whole or a part


def render_significance(judged: Sequence[Judged], pairs: Sequence[PairedRuns]) -> str:
    """Return the HTML of a comparison."""
    labels = [one.label for one in judged]
    values = {
        "title": "One comparison" if len(pairs) == 1 else f"{len(pairs)} comparisons",
        "command": f"l2s compare {' '.join(labels)}",
        "runs": {one.label: MethodSummary.of(one.images) for one in judged},
        "judges": {one.label: one.judge for one in judged},
        "remarks": remarks(judged, pairs),
        "pairs": pairs,
        "outcomes": [*pairs[0].outcomes],
        "parts": PARTS,
        "titles": TITLES,
        "group_names": group_names(judged),
        "resamples": RESAMPLES,
    }
    return render_page(
        values,
        {"forest": forest_figure(forest_rows(pairs, group_names(judged)))},
        TEMPLATE,
        interval=signed_interval,
        p=p_text,
    )


def remarks(judged: Sequence[Judged], pairs: Sequence[PairedRuns]) -> list[str]:
    """Return what a reader must know of these runs: images left out, and different judges."""
    found = []
    for pair in pairs:
        if any(pair.left_out):
            first, second = pair.left_out
            left_out = f"{first} of {pair.first}, {second} of {pair.second}"
            found.append(f"{pair.first} and {pair.second} share {pair.shared} images; left out: {left_out}.")
    judges = {one.label: one.judge for one in judged}
    if len(set(judges.values())) > 1:
        by = "; ".join(f"{label} by {judge}" for label, judge in judges.items())
        found.append(f"Not judged alike, so that differences may be the judge's: {by}.")
    return found


def group_names(judged: Sequence[Judged]) -> dict[str, str]:
    """Return how the kinds of prompts of all runs are called."""
    return {group: name for one in judged for group, name in one.group_names.items()}


def forest_rows(pairs: Sequence[PairedRuns], names: Mapping[str, str]) -> list[ForestRow]:
    """Return the rows of a forest plot: every pair, its parts below it; `names` are those of kinds of prompts."""
    rows: list[ForestRow] = []
    for pair in pairs:
        rows.append((f"{pair.first} → {pair.second}", pair.outcomes, True))
        rows += [
            (names.get(value, value), outcomes, False) for key in PARTS for value, outcomes in pair.parts[key].items()
        ]
    return rows


def forest_figure(rows: Sequence[ForestRow]) -> Figure:
    """Draw differences with their intervals, a panel an outcome.

    Parts are grey. An interval without 0 is drawn solid.
    """
    outcomes = [*rows[0][1]]
    figure = Figure(figsize=(10.5, 1.1 + 0.24 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(outcomes), sharex=True, sharey=True)
    for axes, outcome in zip(panels, outcomes, strict=True):
        for height, (_, differences, whole) in enumerate(rows):
            _draw_interval(axes, height, differences[outcome], whole)
        axes.axvline(0, color="grey", linewidth=0.8, linestyle="--")
        axes.set(title=TITLES[outcome], xlabel="second minus first")
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rows)), [label for label, _, _ in rows])
    for text, (_, _, whole) in zip(panels[0].get_yticklabels(), rows, strict=True):
        text.set(fontsize=9 if whole else 8, fontweight="bold" if whole else "normal")
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def _draw_interval(axes: Axes, height: int, difference: PairedDifference, whole: bool) -> None:
    color = "tab:blue" if whole else "tab:gray"
    away = difference.low > 0 or difference.high < 0
    axes.plot([difference.low, difference.high], [height, height], color=color, linewidth=2.5 if whole else 1.4)
    axes.plot(
        difference.difference,
        height,
        marker="o",
        color=color,
        markersize=7 if whole else 5,
        markerfacecolor=color if away else "white",
    )


def page_name(labels: Sequence[str]) -> str:
    """Return a file's name without suffix that tells what is compared.

    Many runs are counted, and told apart by a digest.
    """
    names = [re.sub(r"[^\w.-]+", ".", label) for label in labels]
    name = "_vs_".join(names)
    return (
        name
        if len(name) <= LONGEST
        else f"{names[0][: LONGEST // 2]}_and_{len(names) - 1}_more-{digest(list(labels), 8)}"
    )


def signed_interval(difference: PairedDifference) -> str:
    """Return a difference in rate, or in score, with its interval."""
    return f"{difference.difference:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})"


def p_text(p: float) -> str:
    """Return a p value; one too small for four digits as a bound."""
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"
