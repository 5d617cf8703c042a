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
from l2s_core.config import MAIN, PLAIN, TRAJECTORIES
from l2s_core.data.catalogue import load_catalogue
from l2s_core.data.scene_shards import load_skipped, load_triplets
from l2s_core.data.source import source_of
from l2s_core.dataset.reader import MapDataset
from l2s_core.diffusion.noise import load_noise
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.detectors.accuracy import measure_judge
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.run import Run
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

PACKAGES = ("torch", "diffusers", "transformers", "prefect", "mlflow", "pyarrow")


def build_report(run: Run, backbone: Backbone, judge: Judge) -> dict[str, Any]:
    """Write the report's files into `run.paths.report`; return what summary.json holds."""
    verdicts = method_verdicts(run)
    summary = _summary(run, verdicts, judge, backbone.device)
    summary |= compared_methods(run, summary, verdicts)
    pictures = _pictures(run, backbone, summary, verdicts)
    write_files(
        run.paths.report, render_page(_page_values(run, summary), pictures, p=p_text), summary, pictures["grid"]
    )
    return summary


def _summary(run: Run, verdicts: Verdicts, judge: Judge, device: str) -> dict[str, Any]:
    renders = source_of(run.config.data).REFERENCE_SIDE is not None
    tests = _tests_by_maps(run)
    return {
        "name": run.config.name,
        "config": run.config.model_dump(mode="json"),
        "stages": {
            **{kind: folder.name for kind, folder in run.paths.map_folders.items()},
            **{f"classifier/{v}": run.paths.classifier(v).name for v in run.classifiers},
        },
        "versions": {name: version(name) for name in PACKAGES},
        "data": _data_summary(run),
        "inversion": _inversion_summary(run),
        "trajectories": _trajectory_summary(run),
        "judge": asdict(measure_judge(judge, min_score=run.config.benchmark.min_score)) if renders else None,
        **scores(run, judge, device),
        "plain": MethodSummary.of(verdicts[PLAIN]).to_json(),
        "classifiers": {name: _classifier_summary(run, name, verdicts, tests, device) for name in run.classifiers},
        **method_summaries(run, verdicts),
    }


def _inversion_summary(run: Run) -> dict[str, Any] | None:
    """How many images there were, how many the PSNR filter dropped, and the mean PSNR.

    One shard is in memory at a time.
    """
    if not run.config.inverts:
        return None
    images = set()
    kept = set()
    quality = []
    for name, _ in run.scene_shards():
        shard = load_noise(run.paths.noise / f"{name}.safetensors")
        images |= {row.image_id for row in shard.rows}
        kept |= {row.image_id for row in shard.kept(run.config.inversion.min_psnr).rows}
        quality.append(shard.psnr)
    return {"images": len(images), "dropped": len(images - kept), "psnr": float(torch.cat(quality).mean())}


def _trajectory_summary(run: Run) -> dict[str, Any] | None:
    """How many images were sampled for their maps, and how many of them show one relation."""
    if not run.config.trajectories:
        return None
    images = 0
    kept = 0
    for name, _ in run.scene_shards():
        triplets = load_triplets(run.paths.scenes / f"{name}.safetensors")
        images += run.config.trajectories * sum(t.relation != ATTRIBUTE for t in triplets)
        kept += len(pq.read_table(run.paths.trajectories / f"{name}.parquet", columns=["image_id"]).column(0).unique())
    return {"images": images, "kept": kept}


def _tests_by_maps(run: Run) -> dict[str, MapDataset]:
    """The test sets of every kind of maps the run has.

    There are none where it has one kind alone: its classifiers were tested on that.
    """
    folders = run.paths.map_folders
    names = [name for name, _ in run.scene_shards()]
    if len(folders) == 1:
        return {}
    tests = {
        kind: MapDataset([folder / f"{name}.parquet" for name in names], split="test")
        for kind, folder in folders.items()
    }
    return {kind: test for kind, test in tests.items() if len(test)}


def _classifier_summary(
    run: Run, name: str, verdicts: Verdicts, tests: Mapping[str, MapDataset], device: str
) -> dict[str, Any]:
    """How a classifier was trained, what it does to images, and its test on every kind of maps of `tests`."""
    folder = run.paths.classifier(name)
    model = TrainedClassifier.load(folder, device=device).model
    by_maps = {kind: evaluate(model, test, device=device).summary() for kind, test in tests.items()}
    return {
        "result": load_result(folder).to_json(),
        "steered": MethodSummary.of(verdicts[name]).to_json(),
        "by_maps": by_maps,
    }


def _data_summary(run: Run) -> dict[str, Any]:
    """What the source could not give.

    Entries and images skipped, by reason, with the first ones named; quotas not filled.
    """
    catalogue = load_catalogue(run.paths.catalogue)
    counts = Counter(catalogue.skipped)
    named = list(catalogue.named)
    for name, _ in run.scene_shards():
        skipped, names = load_skipped(run.paths.scenes / f"{name}.safetensors")
        counts.update(skipped)
        named += names
    return {"scenes": len(catalogue.entries), "skipped": dict(counts), "named": named, "short": catalogue.short}


def _pictures(run: Run, backbone: Backbone, summary: Mapping[str, Any], verdicts: Verdicts) -> dict[str, Any]:
    result = load_result(run.paths.classifier(MAIN))
    return {
        **method_pictures(run, summary, verdicts),
        "attention": _attention(run, backbone),
        "confusion": confusion_figure(result.confusion),
        "curves": curves_figure(result.history, result.best_epoch),
    }


def _traced(run: Run) -> EvalItem | None:
    """The item whose attention is shown: the first with a relation, if any."""
    return next((item for item in run.items if item.prompt.triplets), None)


def _attention(run: Run, backbone: Backbone) -> Figure | None:
    config = run.config
    item = _traced(run)
    if item is None:
        return None
    classifier = TrainedClassifier.load(run.paths.classifier(MAIN), device=backbone.device)
    sampler = Sampler.of(backbone, config)
    traces = [trace_attention(sampler, item.prompt, item.seed, classifier, s) for s in (None, config.steering)]
    maps, images = zip(*traces, strict=True)
    return attention_figure(images, maps, ("plain", "steered"), classifier.source.steps, item.prompt.objects)


def _page_values(run: Run, summary: dict[str, Any]) -> dict[str, Any]:
    main = summary["classifiers"][MAIN]["result"]
    leakage = []
    for name, entry in summary["classifiers"].items():
        config = run.classifiers[name]
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
        **method_values(run, summary),
        "ablations": load_ablations(run.home, run.config),
        "leakage": leakage,
        "command": f"l2s reproduce {run.config.name}",
        "traced": _traced(run),
        "accuracies": {
            k.replace("accuracy", "").replace("_", " ").strip() or "all": v
            for k, v in main["test"].items()
            if "accuracy" in k
        },
        "records": main["records"],
        "train_seconds": main["seconds"],
        "scope": source_of(run.config.data).SCOPE,
    }
