"""From a run's finished stages to its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import pyarrow.parquet as pq
import torch
from matplotlib.figure import Figure

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.experiment import load_result
from l2s_core.classifier.training import evaluate
from l2s_core.config import TRAJECTORIES
from l2s_core.data.catalogue import load_catalogue
from l2s_core.data.scene_shards import load_skipped, load_triplets
from l2s_core.data.source import source_of
from l2s_core.dataset.reader import MapDataset
from l2s_core.diffusion.noise import load_noise
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.detectors.accuracy import measure_judge
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.statistics.aggregate import MethodSummary
from l2s_core.relations import ATTRIBUTE
from l2s_core.report.ablations import load_ablations
from l2s_core.report.comparison import (
    compared_methods,
    method_pictures,
    method_summaries,
    method_values,
    method_verdicts,
    scores,
    write_files,
)
from l2s_core.report.figures import attention_figure, confusion_figure, curves_figure
from l2s_core.report.gallery import Verdicts
from l2s_core.report.page import render_page
from l2s_core.report.significance_page import p_text
from l2s_core.report.trace import trace_attention
from l2s_core.report.wording import MAPS
from l2s_core.storage.stages import MAIN, PLAIN, Stages

PACKAGES = ("torch", "diffusers", "transformers", "prefect", "mlflow", "pyarrow")


def build_report(stages: Stages, backbone: Backbone, judge: Judge) -> dict[str, Any]:
    """Write the report's files into `stages.report`; return what summary.json holds."""
    verdicts = method_verdicts(stages)
    summary = _summary(stages, verdicts, judge, backbone.device)
    summary |= compared_methods(stages, summary, verdicts)
    pictures = _pictures(stages, backbone, summary, verdicts)
    write_files(
        stages.report, render_page(_page_values(stages, summary), pictures, p=p_text), summary, pictures["grid"]
    )
    return summary


def _summary(stages: Stages, verdicts: Verdicts, judge: Judge, device: str) -> dict[str, Any]:
    renders = source_of(stages.config.data).REFERENCE_SIDE is not None
    tests = _tests_by_maps(stages)
    return {
        "name": stages.config.name,
        "config": stages.config.model_dump(mode="json"),
        "stages": {
            **{kind: folder.name for kind, folder in stages.map_folders.items()},
            **{f"classifier/{v}": stages.classifier(v).name for v in stages.classifiers},
        },
        "versions": {name: version(name) for name in PACKAGES},
        "data": _data_summary(stages),
        "inversion": _inversion_summary(stages),
        "trajectories": _trajectory_summary(stages),
        "judge": asdict(measure_judge(judge, min_score=stages.config.benchmark.min_score)) if renders else None,
        **scores(stages, judge, device),
        "plain": MethodSummary.of(verdicts[PLAIN]).to_json(),
        "classifiers": {
            name: _classifier_summary(stages, name, verdicts, tests, device) for name in stages.classifiers
        },
        **method_summaries(stages, verdicts),
    }


def _inversion_summary(stages: Stages) -> dict[str, Any] | None:
    """How many images there were, how many the PSNR filter dropped, and the mean PSNR.

    One shard is in memory at a time.
    """
    if not stages.config.inverts:
        return None
    images = set()
    kept = set()
    quality = []
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
    images = 0
    kept = 0
    for name, _ in stages.scene_shards():
        triplets = load_triplets(stages.scenes / f"{name}.safetensors")
        images += stages.config.trajectories * sum(t.relation != ATTRIBUTE for t in triplets)
        kept += len(pq.read_table(stages.trajectories / f"{name}.parquet", columns=["image_id"]).column(0).unique())
    return {"images": images, "kept": kept}


def _tests_by_maps(stages: Stages) -> dict[str, MapDataset]:
    """The test sets of every kind of maps the run has.

    There are none where it has one kind alone: its classifiers were tested on that.
    """
    folders = stages.map_folders
    names = [name for name, _ in stages.scene_shards()]
    if len(folders) == 1:
        return {}
    tests = {
        kind: MapDataset([folder / f"{name}.parquet" for name in names], split="test")
        for kind, folder in folders.items()
    }
    return {kind: test for kind, test in tests.items() if len(test)}


def _classifier_summary(
    stages: Stages, name: str, verdicts: Verdicts, tests: Mapping[str, MapDataset], device: str
) -> dict[str, Any]:
    """How a classifier was trained, what it does to images, and its test on every kind of maps of `tests`."""
    folder = stages.classifier(name)
    model = TrainedClassifier.load(folder, device=device).model
    by_maps = {kind: evaluate(model, test, device=device).summary() for kind, test in tests.items()}
    return {
        "result": load_result(folder).to_json(),
        "steered": MethodSummary.of(verdicts[name]).to_json(),
        "by_maps": by_maps,
    }


def _data_summary(stages: Stages) -> dict[str, Any]:
    """What the source could not give.

    Entries and images skipped, by reason, with the first ones named; quotas not filled.
    """
    catalogue = load_catalogue(stages.catalogue)
    counts = Counter(catalogue.skipped)
    named = list(catalogue.named)
    for name, _ in stages.scene_shards():
        skipped, names = load_skipped(stages.scenes / f"{name}.safetensors")
        counts.update(skipped)
        named += names
    return {"scenes": len(catalogue.entries), "skipped": dict(counts), "named": named, "short": catalogue.short}


def _pictures(stages: Stages, backbone: Backbone, summary: Mapping[str, Any], verdicts: Verdicts) -> dict[str, Any]:
    result = load_result(stages.classifier(MAIN))
    return {
        **method_pictures(stages, summary, verdicts),
        "attention": _attention(stages, backbone),
        "confusion": confusion_figure(result.confusion),
        "curves": curves_figure(result.history, result.best_epoch),
    }


def _traced(stages: Stages) -> EvalItem | None:
    """The item whose attention is shown: the first with a relation, if any."""
    return next((item for item in stages.items if item.prompt.triplets), None)


def _attention(stages: Stages, backbone: Backbone) -> Figure | None:
    config = stages.config
    item = _traced(stages)
    if item is None:
        return None
    classifier = TrainedClassifier.load(stages.classifier(MAIN), device=backbone.device)
    sampler = Sampler.of(backbone, config)
    traces = [trace_attention(sampler, item.prompt, item.seed, classifier, s) for s in (None, config.steering)]
    maps, images = zip(*traces, strict=True)
    return attention_figure(images, maps, ("plain", "steered"), classifier.source.steps, item.prompt.objects)


def _page_values(stages: Stages, summary: dict[str, Any]) -> dict[str, Any]:
    main = summary["classifiers"][MAIN]["result"]
    leakage = []
    for name, entry in summary["classifiers"].items():
        config = stages.classifiers[name]
        test = entry["result"]["test"]
        leakage.append(
            {
                "name": name,
                "label": "this run's" if name == MAIN else name,
                "augment": config.augment,
                "prompts": "true and wrong" if config.prompts == "dual" else "true only",
                "maps": MAPS[config.maps],
                "sampling": entry["by_maps"].get(TRAJECTORIES, {}).get("accuracy"),
                "true": test["accuracy_true_prompts"],
                "wrong": test["accuracy_wrong_prompts"],
                **entry["steered"],
            }
        )
    return {
        **method_values(stages, summary),
        "ablations": load_ablations(stages.home, stages.config),
        "leakage": leakage,
        "command": f"l2s reproduce {stages.config.name}",
        "traced": _traced(stages),
        "accuracies": {
            k.replace("accuracy", "").replace("_", " ").strip() or "all": v
            for k, v in main["test"].items()
            if "accuracy" in k
        },
        "records": main["records"],
        "train_seconds": main["seconds"],
        "scope": source_of(stages.config.data).SCOPE,
    }
