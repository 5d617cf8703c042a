"""The stages as flows chain them: shards out, results back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import unmapped

from flows.progress import follow
from flows.publish import publish
from l2s_core.report.build import report_files
from l2s_core.stages import Stages
from tasks.benchmark import judge_variant, sample_shard
from tasks.capture import capture_shard
from tasks.inversion import invert_shard
from tasks.report import log_benchmark, write_report
from tasks.scenes import choose_scenes, prepare_scenes
from tasks.training import train_variant


def build_dataset(stages: Stages, rebuild: bool) -> list[Path]:
    """Scenes, inversion, capture: return the Parquet shards."""
    choose_scenes(stages, rebuild)
    names, entries = zip(*stages.scene_shards(), strict=True)
    sizes = [len(part) for part in entries]
    fixed = {"stages": unmapped(stages), "rebuild": unmapped(rebuild)}
    scenes = follow(prepare_scenes.map(shard=names, entries=list(entries), **fixed), "prepare scenes", sizes, "scenes")
    noise = follow(invert_shard.map(scenes=scenes, **fixed), "invert scenes", sizes, "scenes")
    captured = follow(capture_shard.map(noise=noise, **fixed), "capture attention", sizes, "scenes")
    return [shard.path for shard in captured]


def train_classifiers(stages: Stages, shards: list[Path], rebuild: bool) -> list[Path]:
    """Train the run's classifier and its variants: return their folders."""
    variants = list(stages.classifiers)
    fixed = {"stages": unmapped(stages), "shards": unmapped(shards), "rebuild": unmapped(rebuild)}
    return follow(train_variant.map(variant=variants, **fixed), "train classifiers", [1] * len(variants), "classifiers")


def sample_and_judge(stages: Stages, rebuild: bool) -> None:
    """Plain and steered images, those of the baselines, and their verdicts."""
    names, items = zip(*stages.item_shards(), strict=True)
    fixed = {"stages": unmapped(stages), "rebuild": unmapped(rebuild)}
    for variant in stages.ways:
        futures = sample_shard.map(variant=unmapped(variant), shard=names, **fixed)
        paths = follow(futures, f"sample images {variant}", [len(part) for part in items], "images")
        judge_variant(stages, variant, paths, rebuild)


def whole_chain(stages: Stages, rebuild: bool) -> dict[str, Any]:
    """Every stage, the report, its figures on the classifiers' runs and as artifacts; return the summary."""
    train_classifiers(stages, build_dataset(stages, rebuild), rebuild)
    sample_and_judge(stages, rebuild)
    summary, files = write_report(stages), report_files(stages.report)
    log_benchmark(stages, summary, files)
    publish(summary, files)
    return summary
