"""Stage 7: the report, and the benchmark's figures onto the classifiers' MLflow runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2s_core.backbones.load import pick_device
from l2s_core.config import MAIN
from l2s_core.evaluation.run import Run
from l2s_core.report.build import build_report
from l2s_core.report.comparison import build_comparison
from tasks.models import backbone_for, judge_for
from tasks.stage_task import GPU, accelerator, stage_task
from tasks.tracking.classifier_run import ClassifierRun


@stage_task(name="write report", tags=[GPU])
def write_report(run: Run) -> dict[str, Any]:
    """Write report.html, summary.json and grid.png; return the summary."""
    with accelerator():
        return build_report(run, backbone_for(run.config), judge_for(run))


@stage_task(name="write comparison", tags=[GPU])
def write_comparison(run: Run) -> dict[str, Any]:
    """Write report.html, summary.json and grid.png of a benchmark alone; return the summary."""
    with accelerator():
        return build_comparison(run, judge_for(run), pick_device(run.config.device))


@stage_task(name="log benchmark")
def log_benchmark(run: Run, summary: dict[str, Any], files: Sequence[Path] = ()) -> None:
    """Put plain and steered accuracy onto the run of every classifier that this store knows.

    Further methods and the report's files go onto the run's own.
    """
    for name, entry in summary["classifiers"].items():
        methods = {"plain": summary["plain"], "steered": entry["steered"]}
        if name == MAIN:
            methods |= summary.get("methods", {})
        ClassifierRun(run, name).log_benchmark(methods, files if name == MAIN else ())
