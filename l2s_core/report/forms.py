"""A benchmark of several forms of prompts, form by form: a table, failures, and accuracy against their relations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from matplotlib.figure import Figure

from l2s_core.config import MAIN, PLAIN
from l2s_core.evaluation.forms import Form, items_by_form
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.metrics.kid import KID
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.statistics.aggregate import MethodSummary, Rate
from l2s_core.report.failures import count_kinds

PLOTTED = (PLAIN, "best-of-n", "paper")  # kinds of methods that the plot has beside the run's own steering


@dataclass(frozen=True, kw_only=True)
class FormCell:
    """A method on a form's prompts; `time_ratio` is the seconds of its images over those of plain ones.

    `kid_change` is that against plain on the same prompts and noise, None where it is not known. `kinds` counts images
    by kind of failure.
    """

    correct: Rate
    all_found: Rate
    gradients: float
    time_ratio: float
    kid_change: KID | None
    kinds: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class FormRow:
    """A form of prompts: the ids of its items, and what every method makes of them."""

    name: str
    words: str
    relations: int
    item_ids: tuple[str, ...]
    methods: Mapping[str, FormCell]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        methods = {name: asdict(cell) for name, cell in self.methods.items()}
        return {"form": self.name, "relations": self.relations, "count": len(self.item_ids), "methods": methods}


def form_rows(
    run: Run, verdicts: Mapping[str, Sequence[JudgedImage]], kid_changes: Mapping[Form, Mapping[str, KID]]
) -> tuple[FormRow, ...]:
    """Return a row a form, those of fewer relations first; none for a benchmark of one form alone."""
    by_form = items_by_form(run.items)
    if len(by_form) < 2:
        return ()
    judged = {method: {image.item_id: image for image in images} for method, images in verdicts.items()}
    rows = []
    for form, places in by_form.items():
        ids = tuple(run.items[place].item_id for place in places)
        images = {method: [by_id[item_id] for item_id in ids] for method, by_id in judged.items()}
        changes = kid_changes.get(form, {})
        plain = MethodSummary.of(images[PLAIN]).seconds
        cells = {method: _cell(own, plain, changes.get(method)) for method, own in images.items()}
        rows.append(FormRow(name=form.name, words=form.words, relations=form.relations, item_ids=ids, methods=cells))
    return tuple(rows)


def _cell(images: Sequence[JudgedImage], plain_seconds: float, kid_change: KID | None) -> FormCell:
    summary = MethodSummary.of(images)
    return FormCell(
        correct=summary.correct,
        all_found=summary.all_found,
        gradients=summary.gradients,
        time_ratio=summary.seconds / plain_seconds,
        kid_change=kid_change,
        kinds=count_kinds(images),
    )


def rates_by_relations(rows: Sequence[FormRow], method: str) -> dict[int, Rate]:
    """Return a method's rate of right images by the number of relations of a prompt, over all forms of as many."""
    outcomes: dict[int, list[bool]] = {}
    for row in rows:
        correct = row.methods[method].correct
        outcomes.setdefault(row.relations, []).extend([True] * correct.hits + [False] * (correct.count - correct.hits))
    return {relations: Rate.of(found) for relations, found in sorted(outcomes.items())}


def plotted_methods(run: Run) -> list[str]:
    """Return the methods that the plot of a run has: its own steering, and those of the kinds PLOTTED."""
    return [name for name, method in run.methods.items() if name == MAIN or method.kind in PLOTTED]


def relations_figure(rows: Sequence[FormRow], labels: Mapping[str, str]) -> Figure:
    """Draw accuracy with its interval against the number of relations, a line a method; the run's own stands out."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for number, (method, label) in enumerate(labels.items()):
        rates = rates_by_relations(rows, method)
        shift = 0.03 * (number - (len(labels) - 1) / 2)  # bars beside each other
        places = [relations + shift for relations in rates]
        width = 2.4 if method == MAIN else 1.2
        (line,) = axes.plot(places, [rate.rate for rate in rates.values()], label=label, marker="o", linewidth=width)
        low, high = ([getattr(rate, end) for rate in rates.values()] for end in ("low", "high"))
        axes.vlines(places, low, high, color=line.get_color(), linewidth=1.2, alpha=0.6)
    axes.set_xticks(sorted({row.relations for row in rows}))
    axes.set(xlabel="relations of a prompt", ylabel="every relation right", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure
