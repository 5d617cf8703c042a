"""Stage 7: the report, and the benchmark's figures onto the classifiers' MLflow runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from l2s_core.backbones.load import pick_device
from l2s_core.config import MAIN
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.run_summary import RunSummary
from l2s_core.report.build import build_report
from l2s_core.report.comparison import build_comparison
from l2s_core.report.summary import Report
from tasks.models import backbone_for, judge_for
from tasks.stage_task import GPU, accelerator, stage_task
from tasks.tracking.classifier_run import ClassifierRun


@stage_task(name="write report", tags=[GPU])
def write_report(run: Run) -> Report:
    """Write report.html, summary.json and grid.png; return the report."""
    with accelerator():
        return build_report(run, backbone_for(run.config), judge_for(run))


@stage_task(name="write comparison", tags=[GPU])
def write_comparison(run: Run) -> Report:
    """Write report.html, summary.json and grid.png of a benchmark alone; return the report."""
    with accelerator():
        return build_comparison(run, judge_for(run), pick_device(run.config.device))


@stage_task(name="log benchmark")
def log_benchmark(run: Run, summary: RunSummary, files: Sequence[Path] = ()) -> None:
    """Put plain and steered accuracy onto the run of every classifier that this store knows.

    Further methods and the report's files go onto the run's own.
    """
    further = {name: figures.summary for name, figures in summary.methods.items()}
    for name, figures in summary.classifiers.items():
        methods = {"plain": summary.plain.summary, "steered": figures.steered.summary}
        if name == MAIN:
            methods |= further
        ClassifierRun(run, name).log_benchmark(methods, files if name == MAIN else ())
