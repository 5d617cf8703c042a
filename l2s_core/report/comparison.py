"""Plain beside steered: the table and the picture grid of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from l2s_core.classifier.experiment import load_result
from l2s_core.evaluation.aggregate import summarise
from l2s_core.evaluation.samples import load_samples
from l2s_core.files import read_json, write_json
from l2s_core.report.grids import comparison_grid, save_png
from l2s_core.stages import MAIN, PLAIN, Stages

GRID_ITEMS = 16


def build_comparison(stages: Stages) -> tuple[dict[str, Any], list[Path]]:
    """Write summary.json and grid.png of a benchmark without a dataset; return the summary and the files."""
    summary = {
        "name": stages.config.name,
        "config": stages.config.model_dump(mode="json"),
        "plain": variant_summary(stages, PLAIN),
        "classifiers": {variant: {"steered": variant_summary(stages, variant)} for variant in stages.classifiers},
        **baseline_summaries(stages),
    }
    folder = stages.report
    save_png(first_items_grid(stages), folder / "grid.png")
    write_json(folder / "summary.json", summary)
    return summary, [folder / "summary.json", folder / "grid.png"]


def point_summary(stages: Stages) -> tuple[dict[str, Any], Path]:
    """Write grid.png of a point of a sweep; return the summary of its own classifier, and the picture."""
    picture = stages.verdicts(MAIN) / "grid.png"
    if not picture.is_file():
        save_png(first_items_grid(stages), picture)
    entry = {"result": load_result(stages.classifier(MAIN)), "steered": variant_summary(stages, MAIN)}
    summary = {"name": stages.config.name, "plain": variant_summary(stages, PLAIN), "classifiers": {MAIN: entry}, **baseline_summaries(stages)}
    return summary, picture


def variant_summary(stages: Stages, variant: str) -> dict[str, Any]:
    """Summarise a variant's verdicts."""
    return summarise(read_json(stages.verdicts(variant) / "verdicts.json"))


def baseline_summaries(stages: Stages) -> dict[str, Any]:
    """Return {"baselines": {name: its summary, with its kind and where it chooses the number of candidates}}; nothing without any."""
    baselines = {}
    for name, baseline in stages.config.baselines.items():
        rows = read_json(stages.verdicts(name) / "verdicts.json")
        candidates = {"candidates": rows[0]["candidates"]} if "candidates" in rows[0] else {}
        baselines[name] = {"kind": baseline.kind, **candidates, **summarise(rows)}
    return {"baselines": baselines} if baselines else {}


def table_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return plain sampling, every classifier's steering and every baseline, with the time against plain."""
    rows = [{"name": PLAIN, "label": "plain", **summary["plain"]}]
    for variant, entry in summary["classifiers"].items():
        rows.append({"name": variant, "label": "steered" if variant == MAIN else f"steered by {variant}", **entry["steered"]})
    for name, entry in summary.get("baselines", {}).items():
        rows.append({"name": name, "label": f"{name} (of {entry['candidates']})" if "candidates" in entry else name, **entry})
    return [{**row, "time_ratio": row["seconds"] / rows[0]["seconds"]} for row in rows]


def first_items_grid(stages: Stages) -> Image.Image:
    """Draw the first prompts of every kind of object pair, plain and steered, none picked by its result."""
    columns, verdicts, chosen = {}, {}, _first_items(stages)
    for label, variant in (("plain", PLAIN), ("steered", MAIN)):
        shards = [load_samples(stages.samples(variant) / f"{name}.safetensors") for name, _ in stages.item_shards()]
        images = {i: image.numpy() for shard in shards for i, image in zip(shard.item_ids, shard.images, strict=True)}
        rows = {row["item_id"]: row for row in read_json(stages.verdicts(variant) / "verdicts.json")}
        columns[label], verdicts[label] = [images[i] for i in chosen], [rows[i] for i in chosen]
    return comparison_grid(columns, verdicts)


def _first_items(stages: Stages) -> list[str]:
    """Return ids of the first prompts of every pair split, one seed each."""
    by_split: dict[str, dict[str, str]] = {}
    for item in stages.items:
        by_split.setdefault(item.pair_split, {}).setdefault(item.prompt.text, item.item_id)
    share = -(-GRID_ITEMS // len(by_split))
    return [i for prompts in by_split.values() for i in list(prompts.values())[:share]][:GRID_ITEMS]
