"""Stage 7: the report, and a run of MLflow for each classifier's benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from l2s_core.backbones.load import pick_device
from l2s_core.config import MAIN, PLAIN
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.run_summary import RunSummary
from l2s_core.report.build import build_report
from l2s_core.report.comparison import build_comparison
from l2s_core.report.summary import Report
from tasks.models import backbone_for, judge_for
from tasks.stage_task import GPU, accelerator, stage_task
from tasks.tracking.benchmark_run import BenchmarkRun
from tasks.tracking.metrics import STEERED


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
    """Write a run of MLflow for every classifier's benchmark, further methods and the report's files with the first.

    What a classifier does to images is shown on its own run, too.
    """
    further = {name: figures.summary for name, figures in summary.methods.items()}
    for name, figures in summary.classifiers.items():
        methods = {PLAIN: summary.plain.summary, STEERED: figures.steered.summary}
        sampled = {PLAIN: PLAIN, STEERED: name}
        if name == MAIN:
            methods |= further
            sampled |= {method: method for method in further}
        BenchmarkRun(run, name, methods, sampled).log(files if name == MAIN else ())
