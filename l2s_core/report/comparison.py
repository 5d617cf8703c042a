"""Plain beside steered and the baselines: what a benchmark's summary says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from l2s_core.classifier.experiment import load_result
from l2s_core.evaluation.aggregate import summarise
from l2s_core.evaluation.published import published_beside
from l2s_core.files import read_json, write_json
from l2s_core.report.failures import failures_summary
from l2s_core.report.gallery import Verdicts, first_items_grid
from l2s_core.report.grids import save_png
from l2s_core.report.leaderboard import leaderboard
from l2s_core.stages import MAIN, PLAIN, Stages


def build_comparison(stages: Stages) -> tuple[dict[str, Any], list[Path]]:
    """Write summary.json and grid.png of a benchmark without a dataset; return the summary and the files."""
    verdicts = way_verdicts(stages)
    summary = {
        "name": stages.config.name,
        "config": stages.config.model_dump(mode="json"),
        "plain": summarise(verdicts[PLAIN]),
        "classifiers": {variant: {"steered": summarise(verdicts[variant])} for variant in stages.classifiers},
        **baseline_summaries(stages, verdicts),
    }
    summary |= compared_ways(stages, summary, verdicts)
    folder = stages.report
    save_png(first_items_grid(stages, verdicts), folder / "grid.png")
    write_json(folder / "summary.json", summary)
    return summary, [folder / "summary.json", folder / "grid.png"]


def point_summary(stages: Stages) -> tuple[dict[str, Any], Path]:
    """Write grid.png of a point of a sweep; return the summary of its own classifier, and the picture."""
    verdicts, picture = way_verdicts(stages), stages.verdicts(MAIN) / "grid.png"
    if not picture.is_file():
        save_png(first_items_grid(stages, verdicts), picture)
    entry = {"result": load_result(stages.classifier(MAIN)), "steered": summarise(verdicts[MAIN])}
    baselines = baseline_summaries(stages, verdicts)
    return {"name": stages.config.name, "plain": summarise(verdicts[PLAIN]), "classifiers": {MAIN: entry}, **baselines}, picture


def way_verdicts(stages: Stages) -> dict[str, list[dict[str, Any]]]:
    """Return the verdicts of every way of sampling."""
    return {way: read_json(stages.verdicts(way) / "verdicts.json") for way in stages.ways}


def baseline_summaries(stages: Stages, verdicts: Verdicts) -> dict[str, Any]:
    """Return {"baselines": {name: its summary, with its kind and where it chooses the number of candidates}}; nothing without any."""
    baselines = {}
    for name, baseline in stages.config.baselines.items():
        rows = verdicts[name]
        candidates = {"candidates": rows[0]["candidates"]} if "candidates" in rows[0] else {}
        baselines[name] = {"kind": baseline.kind, **candidates, **summarise(rows)}
    return {"baselines": baselines} if baselines else {}


def compared_ways(stages: Stages, summary: Mapping[str, Any], verdicts: Verdicts) -> dict[str, Any]:
    """Return what a summary says of all ways together: the leaderboard, what went wrong, and the paper's figures beside them."""
    figures, note = published_beside(stages.config)
    return {
        "leaderboard": leaderboard(table_rows(summary), verdicts, summary.get("quality")),
        "failures": failures_summary(verdicts),
        "published": {"figures": [asdict(figure) for figure in figures], "note": note},
    }


def table_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return plain sampling, every classifier's steering and every baseline, with the time against plain."""
    rows = [{"name": PLAIN, "label": "plain", **summary["plain"]}]
    for variant, entry in summary["classifiers"].items():
        rows.append({"name": variant, "label": "steered" if variant == MAIN else f"steered by {variant}", **entry["steered"]})
    for name, entry in summary.get("baselines", {}).items():
        rows.append({"name": name, "label": f"{name} (of {entry['candidates']})" if "candidates" in entry else name, **entry})
    return [{**row, "time_ratio": row["seconds"] / rows[0]["seconds"]} for row in rows]
