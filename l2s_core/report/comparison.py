"""All methods of a run side by side: what a report says of them, and the report of a benchmark alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from l2s_core.classifier.experiment import load_result
from l2s_core.config import MAIN, PLAIN
from l2s_core.data.source import source_of
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.evaluation.judged_image import FILE, JudgedImage, read_judged
from l2s_core.evaluation.metrics.published import published_beside
from l2s_core.evaluation.metrics.quality import has_quality, run_quality
from l2s_core.evaluation.protocols.protocol import protocol_of
from l2s_core.evaluation.protocols.verdict import CORRECT
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.run_summary import FILE as SUMMARY
from l2s_core.evaluation.run_summary import FORMAT, ClassifierFigures, MethodFigures, RunSummary
from l2s_core.report.breakdown import PARTS, breakdown
from l2s_core.report.dataset_summary import DatasetSummary
from l2s_core.report.failures import failures_summary
from l2s_core.report.forms import form_rows, plotted_methods, relations_figure
from l2s_core.report.gallery import Verdicts, failure_pictures, first_items_grid, form_grids
from l2s_core.report.grids import save_png
from l2s_core.report.leaderboard import leaderboard
from l2s_core.report.page import Picture, render_page
from l2s_core.report.pareto import pareto_figure
from l2s_core.report.provenance import Provenance
from l2s_core.report.scores import Scores
from l2s_core.report.significance_page import p_text
from l2s_core.report.summary import Report
from l2s_core.storage.files import write_text
from l2s_core.storage.versioned import write_versioned

PAGE = "comparison_page.html"


def build_comparison(run: Run, judge: Judge, device: str = "cpu") -> Report:
    """Write the report of a benchmark without a dataset into `run.paths.report`; return it as a record."""
    verdicts = method_verdicts(run)
    classifiers = {name: ClassifierFigures(steered=method_figures(run, name, verdicts)) for name in run.classifiers}
    report = compared(run, classifiers, verdicts, Scores.of(run, judge, device))
    grid = first_items_grid(run, verdicts)
    values = method_values(run, report) | {
        "command": f"l2s benchmark {run.config.name}",
        "provenance": Provenance.now(device),
    }
    pictures = method_pictures(run, report, verdicts) | {"grid": grid}
    write_files(run.paths.report, render_page(values, pictures, PAGE, p=p_text), report, grid)
    return report


def write_files(folder: Path, page: str, report: Report, grid: Image.Image) -> None:
    """Write a report's files (see `report_files`)."""
    write_text(folder / "report.html", page)
    save_png(grid, folder / "grid.png")
    write_versioned(folder / SUMMARY, FORMAT, report.to_json())


def report_files(folder: Path) -> list[Path]:
    """The files of a report, in the order a reader wants them."""
    return [folder / name for name in ("report.html", SUMMARY, "grid.png")]


def point_summary(run: Run) -> tuple[RunSummary, Path]:
    """Write grid.png of a point of a sweep; return the figures of its own classifier, and the picture."""
    verdicts = method_verdicts(run)
    picture = run.paths.verdicts(MAIN) / "grid.png"
    if not picture.is_file():
        save_png(first_items_grid(run, verdicts), picture)
    main = ClassifierFigures(
        steered=method_figures(run, MAIN, verdicts), result=load_result(run.paths.classifier(MAIN))
    )
    return run_summary(run, {MAIN: main}, verdicts), picture


def point_quality(run: Run) -> dict[str, float]:
    """Return the change in KID of a point's steered images against its plain ones, and its error; else nothing."""
    if source_of(run.config.data).REFERENCE_SIDE is None:
        return {}
    judge = load_judge(run.config.benchmark.judge)
    change = run_quality(run, judge)[MAIN].kid_change if has_quality(run, judge) else None
    return {} if change is None else {"kid_change": change.mean, "kid_change_error": change.error}


def method_verdicts(run: Run) -> dict[str, list[JudgedImage]]:
    """Return the judged images of every method."""
    return {method: read_judged(run.paths.verdicts(method) / FILE) for method in run.methods}


def method_figures(run: Run, name: str, verdicts: Verdicts) -> MethodFigures:
    """Return what a method of a run comes to."""
    return MethodFigures.of(name, run.methods[name], verdicts[name])


def run_summary(run: Run, classifiers: dict[str, ClassifierFigures], verdicts: Verdicts) -> RunSummary:
    """Return the figures of a run."""
    return RunSummary(
        name=run.config.name,
        plain=method_figures(run, PLAIN, verdicts),
        classifiers=classifiers,
        methods={name: method_figures(run, name, verdicts) for name in run.config.methods},
    )


def compared(
    run: Run,
    classifiers: dict[str, ClassifierFigures],
    verdicts: Verdicts,
    scores: Scores,
    dataset: DatasetSummary | None = None,
) -> Report:
    """Return the figures of a run with what a report says of all methods together.

    These are the leaderboard, what went wrong, and the paper's figures beside them.
    """
    summary = run_summary(run, classifiers, verdicts)
    return Report(
        config=run.config,
        run=summary,
        scores=scores,
        leaderboard=leaderboard(summary.rows, verdicts, scores.quality),
        failures=failures_summary(verdicts),
        forms=form_rows(run, verdicts, scores.kid_changes),
        published=published_beside(run.config),
        dataset=dataset,
    )


def method_pictures(run: Run, report: Report, verdicts: Verdicts) -> dict[str, Picture | list[Image.Image] | None]:
    """Return the pictures of all methods: accuracy against cost, forms of prompts, and the failures that are shown."""
    judged = [name for name, method in run.methods.items() if method.UPPER_BOUND]
    labels = {row.name: row.label for row in report.run.rows}
    plotted = {name: labels[name] for name in plotted_methods(run)}
    return {
        "pareto": pareto_figure(report.leaderboard, MAIN, apart=judged),
        "relations": relations_figure(report.forms, plotted) if report.forms else None,
        "forms": form_grids(run, verdicts, report.forms),
        "failures": failure_pictures(run, verdicts, [shown.item_id for shown in report.failures.shown]),
    }


def method_values(run: Run, report: Report) -> dict[str, Any]:
    """Return what the templates of a page say of the methods."""
    rows = report.run.rows
    return {
        "name": run.config.name,
        "config": run.config,
        "plain": report.run.plain.summary,
        "steered": report.run.classifiers[MAIN].steered.summary,
        "labels": {row.name: row.label for row in rows},
        "leaderboard": report.leaderboard,
        "failures": report.failures,
        "forms": report.forms,
        "published": report.published,
        "quality": report.scores.quality,
        "clip": report.scores.clip,
        "official": report.scores.official,
        "method_notes": {name: run.methods[name].NOTE for name in run.config.methods},
        "breakdowns": {title: breakdown(rows, part) for part, title in PARTS.items()},
        "right": CORRECT,
        "group_names": protocol_of(run.config).GROUP_NAMES,
        "config_yaml": yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False),
    }
