"""The stages as flows chain them: shards out, results back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import unmapped

from flows.progress import follow
from flows.publish import publish
from flows.session import Conclude
from flows.shards import run_over_shards
from l2s_core.config import INVERTED, TRAJECTORIES
from l2s_core.evaluation.run import Run
from l2s_core.report.comparison import report_files
from tasks.benchmark import judge_method, sample_shards
from tasks.capture import capture_shards
from tasks.inversion import invert_shards
from tasks.report import log_benchmark, write_report
from tasks.scenes import choose_scenes, prepare_shards
from tasks.training import train_classifier
from tasks.trajectories import sample_trajectories


def build_dataset(run: Run, rebuild: bool) -> dict[str, list[Path]]:
    """Make scenes, invert them and capture maps; return the Parquet shards by kind of maps.

    A run that trains on the backbone's own images samples them, too.
    """
    choose_scenes(run, rebuild)
    entries = dict(run.scene_shards())
    count = {"sizes": {name: len(part) for name, part in entries.items()}, "unit": "scenes"}
    fixed = {"run": run, "rebuild": rebuild}
    given = {name: {"shard": name, "entries": part} for name, part in entries.items()}
    scenes = run_over_shards(prepare_shards, given, label="prepare scenes", folder=run.paths.scenes, **count, **fixed)
    pictured = {path.stem: {"scenes": path} for path in scenes}
    shards = {}
    if INVERTED in run.paths.map_folders:
        noise = run_over_shards(
            invert_shards, pictured, label="invert scenes", folder=run.paths.noise, **count, **fixed
        )
        given = {path.stem: {"noise": path} for path in noise}
        captured = run_over_shards(
            capture_shards, given, label="capture attention", folder=run.paths.maps, **count, **fixed
        )
        shards[INVERTED] = [shard.path for shard in captured]
    if TRAJECTORIES in run.paths.map_folders:
        where = {"label": "sample trajectories", "folder": run.paths.trajectories}
        shards[TRAJECTORIES] = run_over_shards(sample_trajectories, pictured, **where, **count, **fixed)
    return shards


def train_classifiers(run: Run, shards: dict[str, list[Path]], rebuild: bool) -> list[Path]:
    """Train every classifier of the run: return their folders."""
    names = list(run.classifiers)
    fixed = {"run": unmapped(run), "shards": unmapped(shards), "rebuild": unmapped(rebuild)}
    return follow(
        train_classifier.map(name=names, **fixed),
        "train classifiers",
        [{name: 1} for name in names],
        "classifiers",
    )


def sample_and_judge(run: Run, rebuild: bool) -> None:
    """Plain and steered images, those of the methods, and their verdicts."""
    sizes = {name: len(items) for name, items in run.item_shards()}
    given = {name: {"shard": name} for name in sizes}
    for method in run.methods:
        where = {"label": f"sample images {method}", "folder": run.paths.samples(method)}
        fixed = {"run": run, "method": method, "rebuild": rebuild}
        paths = run_over_shards(sample_shards, given, sizes=sizes, unit="images", **where, **fixed)
        judge_method.submit(run, method, paths, rebuild).result()


def whole_chain(run: Run, rebuild: bool, conclude: Conclude) -> dict[str, Any]:
    """Every stage, the report, its figures on the classifiers' runs and as artifacts; return the summary."""
    train_classifiers(run, build_dataset(run, rebuild), rebuild)
    sample_and_judge(run, rebuild)
    summary = write_report.submit(run).result()
    files = report_files(run.paths.report)
    conclude(summary, run.paths.report)
    log_benchmark(run, summary, files)
    publish(summary, files)
    return summary
