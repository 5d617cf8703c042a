"""What runs are called in MLflow: by their configuration, and by the settings in which they differ from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from l2s_core.evaluation.run import Run
from l2s_core.experiments.sweeps import settings_text

RUN_ID = "l2s.run_id"  # tag: the run's id in `l2s runs`
VARIED = "l2s.varied"  # tag: the settings in which a run differs from its configuration
NOTE = "mlflow.note.content"  # MLflow's own tag: the description on a run's page
LEARNT = ("backbone", "capture", "classifier", "classifiers", "data", "inversion", "trajectories")
"""The sections of a run that a classifier depends on."""
LONGEST = 60  # characters of settings in a name: more are counted, and the tag has them


def classifier_title(run: Run, name: str) -> str:
    """Return the name of a classifier's run: "widths/main, width=16"."""
    return _titled(f"{run.config.name}/{name}", learnt(run))


def benchmark_title(run: Run, name: str) -> str:
    """Return the name of a benchmark's run: "mini-sd/main: pairs test, updates=2"."""
    return _titled(f"{run.config.name}/{name}: {suite_of(run)}", run.varied)


def suite_of(run: Run) -> str:
    """Return the benchmark's protocol and suite."""
    return f"{run.config.benchmark.protocol} {run.config.benchmark.suite}"


def learnt(run: Run) -> dict[str, Any]:
    """Return what a run varies of the settings that a classifier depends on."""
    return {key: value for key, value in run.varied.items() if key.partition(".")[0] in LEARNT}


def varied_text(varied: Mapping[str, Any]) -> str:
    """Return settings by their whole keys: "classifier.width=16, data.train=50"."""
    return ", ".join(f"{key}={value}" for key, value in varied.items())


def _titled(what: str, varied: Mapping[str, Any]) -> str:
    text = settings_text(varied)
    short = text if len(text) <= LONGEST else f"{len(varied)} own settings"
    return f"{what}, {short}" if short else what
