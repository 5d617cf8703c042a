"""The stages as flows chain them: shards out, results back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import Task, unmapped

from flows.progress import RunProgress, follow, followed, result_of
from flows.publish import publish
from flows.session import Conclude
from flows.shards import run_over_shards
from l2s_core.config import INVERTED, TRAJECTORIES
from l2s_core.evaluation.judged_image import read_judged
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.statistics.aggregate import MethodSummary
from l2s_core.planning.pace import LABELS, REPORT, dataset_stages, image_stages, images_label
from l2s_core.planning.stage_kinds import TRAIN
from l2s_core.report.comparison import report_files
from l2s_core.report.summary import Report
from tasks.benchmark import judge_method, sample_shards
from tasks.capture import capture_shards
from tasks.inversion import invert_shards
from tasks.progress import told_of
from tasks.report import log_benchmark, write_report
from tasks.scenes import choose_scenes, prepare_shards
from tasks.training import train_classifier
from tasks.trajectories import sample_trajectories


def build_dataset(run: Run, rebuild: bool, progress: RunProgress) -> dict[str, list[Path]]:
    """Make scenes, invert them and capture maps; return the Parquet shards by kind of maps.

    A run that trains on the backbone's own images samples them, too.
    """
    choose_scenes(run, rebuild)
    entries = dict(run.scene_shards())
    sizes = {name: len(part) for name, part in entries.items()}

    def over(task: Task, given: Mapping[str, Mapping[str, Any]], label: str, folder: Path) -> list[Any]:
        with progress.stage(label) as stage:
            return run_over_shards(task, given, sizes, stage, "scenes", folder, run=run, rebuild=rebuild)

    listed = {name: {"shard": name, "entries": part} for name, part in entries.items()}
    scenes = over(prepare_shards, listed, "prepare scenes", run.paths.scenes)
    pictured = {path.stem: {"scenes": path} for path in scenes}
    shards = {}
    if INVERTED in run.paths.map_folders:
        noise = over(invert_shards, pictured, "invert scenes", run.paths.noise)
        inverted = {path.stem: {**pictured[path.stem], "noise": path} for path in noise}
        shards[INVERTED] = over(capture_shards, inverted, "capture attention", run.paths.maps)
    if TRAJECTORIES in run.paths.map_folders:
        shards[TRAJECTORIES] = over(sample_trajectories, pictured, "sample trajectories", run.paths.trajectories)
    return shards


def train_classifiers(run: Run, shards: dict[str, list[Path]], rebuild: bool, progress: RunProgress) -> list[Path]:
    """Train every classifier of the run: return their folders."""
    names = list(run.classifiers)
    token = uuid4().hex
    with progress.stage(LABELS[TRAIN]) as stage:
        futures = train_classifier.map(
            name=names, run=unmapped(run), shards=unmapped(shards), token=unmapped(token), rebuild=unmapped(rebuild)
        )
        parts = [{name: 1} for name in names]
        return follow(futures, stage, parts, "classifiers", told=lambda: told_of(token))


def sample_and_judge(run: Run, rebuild: bool, progress: RunProgress) -> None:
    """Plain and steered images, those of the methods, and their verdicts; says each method's figures at once."""
    sizes = {name: len(items) for name, items in run.item_shards()}
    given = {name: {"shard": name} for name in sizes}
    for method in run.methods:
        folder = run.paths.samples(method)
        fixed = {"run": run, "method": method, "rebuild": rebuild}
        with progress.stage(images_label(method)) as stage:
            paths = run_over_shards(sample_shards, given, sizes, stage, "images", folder, **fixed)
            verdicts = result_of(judge_method.submit(run, method, paths, rebuild), stage)
        images = read_judged(verdicts)
        progress.say(f"  {run.methods[method].label(method, images)}: {_figures(MethodSummary.of(images))}")


def _figures(summary: MethodSummary) -> str:
    correct = summary.correct
    found = summary.all_found.rate
    return f"relation correct {correct.rate:.2f} ({correct.low:.2f}-{correct.high:.2f}), all objects {found:.2f}"


def whole_chain(run: Run, rebuild: bool, conclude: Conclude) -> Report:
    """Every stage, the report, its figures on the classifiers' runs and as artifacts; return the report."""
    with followed([*dataset_stages(run), *image_stages(run), REPORT]) as progress:
        train_classifiers(run, build_dataset(run, rebuild, progress), rebuild, progress)
        sample_and_judge(run, rebuild, progress)
        report, _ = write_and_publish(run, write_report, conclude, progress)
    return report


def write_and_publish(run: Run, write: Task, conclude: Conclude, progress: RunProgress) -> tuple[Report, list[Path]]:
    """Have a task write the report, log its figures and publish them; return it and its files."""
    with progress.stage(REPORT.label) as stage:
        report: Report = result_of(write.submit(run), stage)
        files = report_files(run.paths.report)
        conclude(report.run, run.paths.report)
        log_benchmark(run, report.run, files)
        publish(report.run, files)
    return report, files
