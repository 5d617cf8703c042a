"""All methods of a run side by side: what a report says of them, and the report of a benchmark alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from l2s_core.classifier.experiment import load_result
from l2s_core.config import MAIN, PLAIN
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.judged_image import FILE, JudgedImage, read_judged
from l2s_core.evaluation.metrics.clipscore import load_clip
from l2s_core.evaluation.metrics.published import published_beside
from l2s_core.evaluation.metrics.quality import clip_scores, has_quality, run_quality
from l2s_core.evaluation.official import official_summary
from l2s_core.evaluation.protocols.protocol import protocol_of
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.statistics.aggregate import MethodSummary
from l2s_core.report.breakdown import PARTS, breakdown
from l2s_core.report.failures import CORRECT, failures_summary
from l2s_core.report.gallery import Verdicts, failure_pictures, first_items_grid
from l2s_core.report.grids import save_png
from l2s_core.report.leaderboard import leaderboard
from l2s_core.report.page import render_page
from l2s_core.report.pareto import pareto_figure
from l2s_core.report.significance_page import p_text
from l2s_core.storage.files import write_json, write_text

PAGE = "comparison_page.html"


def build_comparison(run: Run, judge: Judge, device: str = "cpu") -> dict[str, Any]:
    """Write the report of a benchmark without a dataset into `run.paths.report`; return what summary.json holds."""
    verdicts = method_verdicts(run)
    summary = {
        "name": run.config.name,
        "config": run.config.model_dump(mode="json"),
        **scores(run, judge, device),
        "plain": MethodSummary.of(verdicts[PLAIN]).to_json(),
        "classifiers": {name: {"steered": MethodSummary.of(verdicts[name]).to_json()} for name in run.classifiers},
        **method_summaries(run, verdicts),
    }
    summary |= compared_methods(run, summary, verdicts)
    pictures = method_pictures(run, summary, verdicts)
    values = method_values(run, summary) | {"command": f"l2s benchmark {run.config.name}"}
    write_files(run.paths.report, render_page(values, pictures, PAGE, p=p_text), summary, pictures["grid"])
    return summary


def write_files(folder: Path, page: str, summary: Mapping[str, Any], grid: Image.Image) -> None:
    """Write a report's files (see `report_files`)."""
    write_text(folder / "report.html", page)
    save_png(grid, folder / "grid.png")
    write_json(folder / "summary.json", summary)


def report_files(folder: Path) -> list[Path]:
    """The files of a report, in the order a reader wants them."""
    return [folder / name for name in ("report.html", "summary.json", "grid.png")]


def point_summary(run: Run) -> tuple[dict[str, Any], Path]:
    """Write grid.png of a point of a sweep; return the summary of its own classifier, and the picture."""
    verdicts = method_verdicts(run)
    picture = run.paths.verdicts(MAIN) / "grid.png"
    if not picture.is_file():
        save_png(first_items_grid(run, verdicts), picture)
    entry = {
        "result": load_result(run.paths.classifier(MAIN)).to_json(),
        "steered": MethodSummary.of(verdicts[MAIN]).to_json(),
    }
    methods = method_summaries(run, verdicts)
    return {
        "name": run.config.name,
        "plain": MethodSummary.of(verdicts[PLAIN]).to_json(),
        "classifiers": {MAIN: entry},
        **methods,
    }, picture


def scores(run: Run, judge: Judge, device: str) -> dict[str, Any]:
    """Return what is known of the images beside the judge's verdicts.

    These are KID, CLIPScore, and what GenEval's own scorer says; None or empty where it is not known.
    """
    clip = run.config.benchmark.clip
    quality = run_quality(run, judge) if has_quality(run, judge) else None
    by_clip = None if clip is None else clip_scores(run, load_clip(clip, device=device))
    official = official_summary(run)
    return {
        "quality": None if quality is None else {name: one.to_json() for name, one in quality.items()},
        "clip": None if by_clip is None else {name: asdict(score) for name, score in by_clip.items()},
        "official": {name: {tag: asdict(rate) for tag, rate in rates.items()} for name, rates in official.items()},
    }


def method_verdicts(run: Run) -> dict[str, list[JudgedImage]]:
    """Return the judged images of every method."""
    return {method: read_judged(run.paths.verdicts(method) / FILE) for method in run.methods}


def method_summaries(run: Run, verdicts: Verdicts) -> dict[str, Any]:
    """Return {"methods": {name: its summary}}, or nothing without any.

    A summary holds the method's kind and label and, where it chooses among several images, how many.
    """
    methods = {}
    for name in run.config.methods:
        images = verdicts[name]
        method = run.methods[name]
        candidates = {} if images[0].candidates is None else {"candidates": images[0].candidates}
        methods[name] = {
            "kind": method.kind,
            "label": method.label(name, images),
            **candidates,
            **MethodSummary.of(images).to_json(),
        }
    return {"methods": methods} if methods else {}


def compared_methods(run: Run, summary: Mapping[str, Any], verdicts: Verdicts) -> dict[str, Any]:
    """Return what a summary says of all methods together.

    These are the leaderboard, what went wrong, and the paper's figures beside them.
    """
    figures, note = published_beside(run.config)
    return {
        "leaderboard": leaderboard(table_rows(summary), verdicts, summary.get("quality")),
        "failures": failures_summary(verdicts),
        "published": {"figures": [asdict(figure) for figure in figures], "note": note},
    }


def table_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return plain sampling, every classifier's steering and every further method, with the time against plain."""
    rows = [{"name": PLAIN, "label": "plain", **summary["plain"]}]
    for name, entry in summary["classifiers"].items():
        rows.append({"name": name, "label": "steered" if name == MAIN else f"steered by {name}", **entry["steered"]})
    for name, entry in summary.get("methods", {}).items():
        rows.append({"name": name, **entry})
    return [{**row, "time_ratio": row["seconds"] / rows[0]["seconds"]} for row in rows]


def method_pictures(run: Run, summary: Mapping[str, Any], verdicts: Verdicts) -> dict[str, Any]:
    """Return the pictures of all methods: accuracy against cost, the first prompts, and the failures that are shown."""
    judged = [name for name, method in run.methods.items() if method.UPPER_BOUND]
    return {
        "pareto": pareto_figure(summary["leaderboard"], MAIN, apart=judged),
        "grid": first_items_grid(run, verdicts),
        "failures": failure_pictures(run, verdicts, [shown["item_id"] for shown in summary["failures"]["shown"]]),
    }


def method_values(run: Run, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a page says of the methods: the summary and what its tables need beside."""
    rows = table_rows(summary)
    return {
        **summary,
        "config": run.config,
        "labels": {row["name"]: row["label"] for row in rows},
        "steered": summary["classifiers"][MAIN]["steered"],
        "method_notes": {name: run.methods[name].NOTE for name in run.config.methods},
        "breakdowns": {title: breakdown(rows, part) for part, title in PARTS.items()},
        "right": CORRECT,
        "group_names": protocol_of(run.config).GROUP_NAMES,
        "config_yaml": yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False),
    }
