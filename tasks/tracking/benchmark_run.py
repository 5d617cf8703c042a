"""One MLflow run per benchmark of a classifier: a child of the classifier's run, with its own settings and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import RunTag
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.git_utils import get_git_commit
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT
from PIL import Image

from l2s_core.evaluation.judged_image import FILE, JudgedImage, read_judged
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.statistics.aggregate import MethodSummary
from l2s_core.hashing import digest
from l2s_core.storage.runs import run_id_of
from tasks.tracking.classifier_run import ClassifierRun
from tasks.tracking.metrics import BEST, HEADLINE, benchmark_metrics, best_metrics
from tasks.tracking.store import PARENT, answering, experiment_id, find_run, log_metrics, log_params, open_store
from tasks.tracking.titles import NOTE, RUN_ID, VARIED, benchmark_title, suite_of, varied_text

BENCHMARK = "l2s.benchmark"  # tag: a digest of the verdicts' addresses; what makes logging idempotent
TABLE = "prompts.json"
PICTURE = "plain and steered"
MARKS = {"latest": "l2s.bench.latest", "best": "l2s.bench.best"}  # tags of the classifier's run
_ROW = ("item_id", "prompt_group", "prompt", "seed", "asks_for", "correct", "all_found", "gradients", "seconds")


class BenchmarkRun:
    """The MLflow run of what one classifier of a run does to the benchmark's images.

    `methods` are the summaries of sampling by the names that metrics have, `sampled` the names that the run has for
    the same. Another benchmark, another steering or other images are another run: none writes over another's figures.
    """

    def __init__(self, run: Run, name: str, methods: Mapping[str, MethodSummary], sampled: Mapping[str, str]) -> None:
        self.run = run
        self.name = name
        self.methods = methods
        self.sampled = sampled
        self.client: MlflowClient = open_store(run.home)
        verdicts = {label: run.paths.verdicts(method).name for label, method in sampled.items()}
        self.identity = digest([run_id_of(run.paths), name, verdicts])

    @answering()
    def log(self, files: Sequence[Path] = ()) -> str:
        """Write the run, unless the store has it, and show it on the classifier's own; return its id."""
        query = f"tags.`{BENCHMARK}` = '{self.identity}' and attributes.status = 'FINISHED'"
        found = find_run(self.client, query)
        if found is not None:
            return str(found.info.run_id)
        classifier = ClassifierRun(self.run, self.name).finished()
        run_id = self._create(classifier)
        metrics = self._metrics()
        log_metrics(self.client, run_id, metrics)
        self.client.log_table(run_id, self._table(), TABLE)
        for path in files:
            self.client.log_artifact(run_id, str(path), "report")
            if path.suffix == ".png":
                self.client.log_image(run_id, Image.open(path), key=PICTURE, step=0)
        self.client.set_terminated(run_id, "FINISHED")
        if classifier is not None:
            self._show(classifier, run_id, metrics)
        return run_id

    def _create(self, classifier: MlflowRun | None) -> str:
        config = self.run.config
        suite = suite_of(self.run)
        what = f"What the classifier {config.name}/{self.name} does to the images of {suite}, beside plain sampling."
        tags: dict[str, Any] = {
            **resolve_tags(),
            BENCHMARK: self.identity,
            "l2s.run": config.name,
            RUN_ID: run_id_of(self.run.paths),
            VARIED: varied_text(self.run.varied),
            "l2s.steered_by": self.run.paths.classifier_identity(self.name),
            "l2s.backbone": config.backbone.model,
            "mlflow.source.name": f"l2s, {config.name}",
            NOTE: f"{what} Its id in `l2s runs`: {run_id_of(self.run.paths)}.",
        }
        commit = get_git_commit(__file__)  # of the code, not of the command, which lies in an environment
        if commit is not None:
            tags[MLFLOW_GIT_COMMIT] = commit
        if classifier is not None:
            tags[PARENT] = classifier.info.run_id
        title = benchmark_title(self.run, self.name)
        run = self.client.create_run(experiment_id(self.client), run_name=title, tags=tags)
        log_params(self.client, run.info.run_id, self._settings())
        return str(run.info.run_id)

    def _settings(self) -> dict[str, Any]:
        """Return what the figures depend on beside the classifier, by dotted keys."""
        config = self.run.config
        sections = {"steering": config.steering, "benchmark": config.benchmark, "backbone": config.backbone}
        return {
            f"{section}.{key}": value
            for section, values in sections.items()
            for key, value in values.model_dump(mode="json").items()
        }

    def _metrics(self) -> dict[str, float]:
        return benchmark_metrics({name: figures_of(summary) for name, summary in self.methods.items()})

    def _table(self) -> pd.DataFrame:
        """Return a row for every image of every method."""
        judged = {name: read_judged(self.run.paths.verdicts(method) / FILE) for name, method in self.sampled.items()}
        return pd.DataFrame([_row(name, image) for name, images in judged.items() for image in images])

    def _show(self, classifier: MlflowRun, run_id: str, metrics: Mapping[str, float]) -> None:
        """Put the latest benchmark's figures onto the classifier's run, a step each, and those of the best one.

        With both stand the id and the settings of the benchmark that they belong to.
        """
        at = classifier.info.run_id
        step = len(self.client.get_metric_history(at, HEADLINE))
        log_metrics(self.client, at, metrics, step)
        tags = self._marks("latest", run_id)
        best = best_metrics(metrics)
        if best[BEST] >= classifier.data.metrics.get(BEST, 0.0):
            log_metrics(self.client, at, best, step)
            tags += self._marks("best", run_id)
        self.client.log_batch(at, tags=tags)

    def _marks(self, kind: str, run_id: str) -> list[RunTag]:
        settings = {key: value for key, value in self._settings().items() if not key.startswith("backbone.")}
        text = json.dumps(settings, sort_keys=True)[:5000]
        return [RunTag(MARKS[kind], run_id), RunTag(f"{MARKS[kind]}.settings", text)]


def figures_of(summary: MethodSummary) -> dict[str, float]:
    """What a method's images come to, by the names of metrics."""
    figures = {
        "correct": summary.correct.rate,
        "all_found": summary.all_found.rate,
        "extra": summary.extra.rate,
        "seconds": float(summary.seconds),
        "gradients": float(summary.gradients),
    }
    figures |= {f"correct_{group}": rate.rate for group, rate in summary.by_prompt_group.items()}
    if summary.single_relations is not None:
        figures["single_relations"] = summary.single_relations.rate
    if summary.score is not None:
        figures["score"] = summary.score.mean
    return figures


def _row(method: str, image: JudgedImage) -> dict[str, Any]:
    return {"method": method, **{name: getattr(image, name) for name in _ROW}, "reason": image.verdict.reason}
