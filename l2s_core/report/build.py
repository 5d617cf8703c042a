"""From a run's finished stages to summary.json, report.html and the picture grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import yaml
from matplotlib.figure import Figure

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.experiment import load_result
from l2s_core.classifier.training import evaluate
from l2s_core.config import TRAJECTORIES
from l2s_core.data.catalogue import load_catalogue
from l2s_core.data.scenes import load_skipped, load_triplets
from l2s_core.dataset.reader import MapDataset
from l2s_core.evaluation.aggregate import summarise
from l2s_core.evaluation.benchmark import EvalItem
from l2s_core.evaluation.clipscore import load_clip
from l2s_core.evaluation.detectors import Judge
from l2s_core.evaluation.official import official_summary
from l2s_core.evaluation.quality import clip_scores, has_quality, run_quality
from l2s_core.files import write_json, write_text
from l2s_core.miniworld.judge_accuracy import measure_judge
from l2s_core.noise import load_noise
from l2s_core.relations import ATTRIBUTE
from l2s_core.report.ablations import load_ablations
from l2s_core.report.breakdown import PARTS, breakdown
from l2s_core.report.comparison import baseline_summaries, compared_ways, table_rows, way_verdicts
from l2s_core.report.failures import CORRECT
from l2s_core.report.figures import attention_figure, confusion_figure, curves_figure
from l2s_core.report.gallery import Verdicts, failure_pictures, first_items_grid
from l2s_core.report.grids import save_png
from l2s_core.report.page import render_page
from l2s_core.report.pareto import pareto_figure
from l2s_core.report.significance_page import p_text
from l2s_core.report.trace import trace_attention
from l2s_core.report.wording import BASELINE_NOTES, JUDGED, MAPS, PAIR_NAMES, PHOTOGRAPH_SCOPE, SMALL_WORLD_SCOPE
from l2s_core.stages import MAIN, PLAIN, Stages

PACKAGES = ("torch", "diffusers", "transformers", "prefect", "mlflow", "pyarrow")


def build_report(stages: Stages, backbone: Backbone, judge: Judge) -> dict[str, Any]:
    """Write the report's files into `stages.report`; return what summary.json holds."""
    verdicts = way_verdicts(stages)
    summary = _summary(stages, verdicts, judge, backbone.device)
    summary |= compared_ways(stages, summary, verdicts)
    pictures = _pictures(stages, backbone, summary, verdicts)
    folder = stages.report
    write_text(folder / "report.html", render_page(_page_values(stages, summary), pictures, p=p_text))
    save_png(pictures["grid"], folder / "grid.png")
    write_json(folder / "summary.json", summary)
    return summary


def report_files(folder: Path) -> list[Path]:
    """The files of a report, in the order a reader wants them."""
    return [folder / name for name in ("report.html", "summary.json", "grid.png")]


def _summary(stages: Stages, verdicts: Verdicts, judge: Judge, device: str) -> dict[str, Any]:
    own_scenes, tests = stages.config.data.source == "miniworld", _tests_by_maps(stages)
    return {
        "name": stages.config.name,
        "config": stages.config.model_dump(mode="json"),
        "stages": {**{kind: folder.name for kind, folder in stages.map_folders.items()}, **{f"classifier/{v}": stages.classifier(v).name for v in stages.classifiers}},
        "versions": {name: version(name) for name in PACKAGES},
        "data": _data_summary(stages),
        "inversion": _inversion_summary(stages),
        "trajectories": _trajectory_summary(stages),
        "judge": asdict(measure_judge(judge, min_score=stages.config.benchmark.min_score)) if own_scenes else None,
        "quality": run_quality(stages, judge) if has_quality(stages, judge) else None,
        "clip": clip_scores(stages, load_clip(clip, device=device)) if (clip := stages.config.benchmark.clip) else None,
        "official": official_summary(stages),
        "plain": summarise(verdicts[PLAIN]),
        "classifiers": {variant: _classifier_summary(stages, variant, verdicts, tests, device) for variant in stages.classifiers},
        **baseline_summaries(stages, verdicts),
    }


def _inversion_summary(stages: Stages) -> dict[str, Any] | None:
    """How many images there were, how many the PSNR filter dropped, and the mean PSNR; one shard in memory at a time."""
    if not stages.config.inverts:
        return None
    images, kept, quality = set(), set(), []
    for name, _ in stages.scene_shards():
        shard = load_noise(stages.noise / f"{name}.safetensors")
        images |= {row.image_id for row in shard.rows}
        kept |= {row.image_id for row in shard.kept(stages.config.inversion.min_psnr).rows}
        quality.append(shard.psnr)
    return {"images": len(images), "dropped": len(images - kept), "psnr": float(torch.cat(quality).mean())}


def _trajectory_summary(stages: Stages) -> dict[str, Any] | None:
    """How many images were sampled for their maps, and how many of them show one relation."""
    if not stages.config.trajectories:
        return None
    images, kept = 0, 0
    for name, _ in stages.scene_shards():
        triplets = load_triplets(stages.scenes / f"{name}.safetensors")
        images += stages.config.trajectories * sum(t.relation != ATTRIBUTE for t in triplets)
        kept += len(pq.read_table(stages.trajectories / f"{name}.parquet", columns=["image_id"]).column(0).unique())
    return {"images": images, "kept": kept}


def _tests_by_maps(stages: Stages) -> dict[str, MapDataset]:
    """The test sets of every kind of maps the run has; none where it has one kind alone, which is what its classifiers were tested on."""
    folders, names = stages.map_folders, [name for name, _ in stages.scene_shards()]
    if len(folders) == 1:
        return {}
    tests = {kind: MapDataset([folder / f"{name}.parquet" for name in names], split="test") for kind, folder in folders.items()}
    return {kind: test for kind, test in tests.items() if len(test)}


def _classifier_summary(stages: Stages, variant: str, verdicts: Verdicts, tests: Mapping[str, MapDataset], device: str) -> dict[str, Any]:
    """How a classifier was trained, what it does to images, and its test on every kind of maps of `tests`."""
    folder = stages.classifier(variant)
    model = TrainedClassifier.load(folder, device=device).model
    by_maps = {kind: evaluate(model, test, device=device).summary() for kind, test in tests.items()}
    return {"result": load_result(folder), "steered": summarise(verdicts[variant]), "by_maps": by_maps}


def _data_summary(stages: Stages) -> dict[str, Any]:
    """What the source could not give: entries and images skipped, by reason, the first ones named; quotas not filled."""
    catalogue = load_catalogue(stages.catalogue)
    counts, named = Counter(catalogue.skipped), list(catalogue.named)
    for name, _ in stages.scene_shards():
        skipped, names = load_skipped(stages.scenes / f"{name}.safetensors")
        counts.update(skipped)
        named += names
    return {"scenes": len(catalogue.entries), "skipped": dict(counts), "named": named, "short": catalogue.short}


def _pictures(stages: Stages, backbone: Backbone, summary: Mapping[str, Any], verdicts: Verdicts) -> dict[str, Any]:
    result = load_result(stages.classifier(MAIN))
    judged = [name for name, baseline in stages.config.baselines.items() if baseline.kind == JUDGED]
    return {
        "pareto": pareto_figure(summary["leaderboard"], MAIN, apart=judged),
        "grid": first_items_grid(stages, verdicts),
        "failures": failure_pictures(stages, verdicts, [shown["item_id"] for shown in summary["failures"]["shown"]]),
        "attention": _attention(stages, backbone),
        "confusion": confusion_figure(result["confusion"]),
        "curves": curves_figure(result["history"], result["best_epoch"]),
    }


def _traced(stages: Stages) -> EvalItem | None:
    """The item whose attention is shown: the first with a relation, if any."""
    return next((item for item in stages.items if item.prompt.triplets), None)


def _attention(stages: Stages, backbone: Backbone) -> Figure | None:
    config, item = stages.config, _traced(stages)
    if item is None:
        return None
    classifier = TrainedClassifier.load(stages.classifier(MAIN), device=backbone.device)
    how = {"steps": config.backbone.steps, "guidance": config.backbone.guidance}
    traces = [trace_attention(backbone, item.prompt, item.seed, classifier, steering=s, **how) for s in (None, config.steering)]
    maps, images = zip(*traces, strict=True)
    return attention_figure(images, maps, ("plain", "steered"), classifier.source.steps, item.prompt.objects)


def _baseline_notes(stages: Stages) -> dict[str, str]:
    """What each baseline is, by name."""
    return {name: BASELINE_NOTES[baseline.kind] for name, baseline in stages.config.baselines.items()}


def _tables(stages: Stages, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of the ways of sampling beyond the summary."""
    rows = table_rows(summary)
    return {
        "baseline_notes": _baseline_notes(stages), "ways": {row["name"]: row["label"] for row in rows}, "steered": summary["classifiers"][MAIN]["steered"],
        "breakdowns": {title: breakdown(rows, part) for part, title in PARTS.items()}, "right": CORRECT,
    }  # fmt: skip


def _page_values(stages: Stages, summary: dict[str, Any]) -> dict[str, Any]:
    main = summary["classifiers"][MAIN]["result"]
    leakage = []
    for variant, entry in summary["classifiers"].items():
        config, test = stages.classifiers[variant], entry["result"]["test"]
        leakage.append({
            "name": variant, "label": "this run's" if variant == MAIN else variant, "augment": config.augment,
            "prompts": "true and wrong" if config.prompts == "dual" else "true only", "maps": MAPS[config.maps],
            "sampling": entry["by_maps"].get(TRAJECTORIES, {}).get("accuracy"),
            "true": test["accuracy_true_prompts"], "wrong": test["accuracy_wrong_prompts"], **entry["steered"],
        })  # fmt: skip
    return {
        **summary, **_tables(stages, summary), "config": stages.config, "ablations": load_ablations(stages.home, stages.config),
        "leakage": leakage, "pair_names": PAIR_NAMES,
        "command": f"l2s reproduce {stages.config.name}", "traced": _traced(stages),
        "accuracies": {k.replace("accuracy", "").replace("_", " ").strip() or "all": v for k, v in main["test"].items() if "accuracy" in k},
        "records": main["records"], "train_seconds": main["seconds"], "scope": SMALL_WORLD_SCOPE if stages.config.data.source == "miniworld" else PHOTOGRAPH_SCOPE,
        "config_yaml": yaml.safe_dump(stages.config.model_dump(mode="json"), sort_keys=False),
    }  # fmt: skip
