"""One MLflow run per trained classifier: parameters, curves, figures, dataset, registered model, benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.types import Schema, TensorSpec

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.experiment import ClassifierResult
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.statistics.aggregate import MethodSummary
from l2s_core.report.figures import confusion_figure
from tasks.tracking.store import answering, experiment_id, find_run, log_metrics, open_store, watch_machine

ADDRESS = "l2s.classifier"  # tag: the classifier's address; what makes logging idempotent
ALIAS = "champion-{maps}"  # of a registered model: validation on one kind of maps says nothing about another
MODEL_CODE = Path(__file__).with_name("registered_model.py")


class ClassifierRun:
    """The MLflow run of one classifier; found again by its address, created once."""

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name
        self.client: MlflowClient = open_store(run.home)
        self.experiment = experiment_id(self.client)
        self.address = run.paths.classifier(name).name
        self._missed: list[tuple[int, Mapping[str, float]]] = []  # epochs that the store did not take
        self._monitor: SystemMetricsMonitor | None = None

    @answering()
    def finished(self) -> MlflowRun | None:
        """Return the finished run of this classifier, if the store has one."""
        return find_run(self.client, f"tags.`{ADDRESS}` = '{self.address}' and attributes.status = 'FINISHED'")

    @answering()
    def start(self) -> str:
        """Begin a run; one that a killed process left unfinished is marked so."""
        query = f"tags.`{ADDRESS}` = '{self.address}' and attributes.status = 'RUNNING'"
        for stale in self.client.search_runs([self.experiment], filter_string=query):
            self.client.set_terminated(stale.info.run_id, "KILLED")
        config = self.run.config
        tags = {
            ADDRESS: self.address,
            "l2s.run": config.name,
            "l2s.classifier_name": self.name,
            "l2s.backbone": config.backbone.model,
        }
        run = self.client.create_run(self.experiment, run_name=f"{config.name}/{self.name}", tags=tags)
        self.run_id = run.info.run_id
        settings = {
            "classifier": self.run.classifiers[self.name],
            "capture": config.capture,
            "data": config.data,
            "inversion": config.inversion,
            "backbone": config.backbone,
        }
        for section, values in settings.items():
            for key, value in values.model_dump(mode="json").items():
                self.client.log_param(self.run_id, f"{section}.{key}", value)
        self.client.log_param(self.run_id, "trajectories", config.trajectories)
        self._monitor = watch_machine(self.run_id)
        return self.run_id

    def epoch(self, number: int, row: Mapping[str, float]) -> None:
        """Log one epoch's losses and accuracies.

        Training goes on when the store is away, and `finish` logs what it missed.
        """
        try:
            log_metrics(self.client, self.run_id, row, number)
        except MlflowException:
            self._missed.append((number, row))

    def fail(self) -> None:
        """Close the run of a training that failed; one that the store is away for is closed by the next `start`."""
        if self._monitor is not None:
            self._monitor.finish()
        with suppress(MlflowException):
            self.client.set_terminated(self.run_id, "FAILED")

    @answering()
    def finish(self, result: ClassifierResult, records: Mapping[str, pd.DataFrame]) -> None:
        """Log the evaluation, the confusion matrix and the datasets; register the model, close the run.

        `records` are given by kind of maps.
        """
        if self._monitor is not None:
            self._monitor.finish()
        for number, row in self._missed:
            log_metrics(self.client, self.run_id, row, number)
        final = {f"test_{k}": v for k, v in result.test.items()} | {
            f"val_both_{k}": v for k, v in result.validation.items()
        }
        log_metrics(self.client, self.run_id, {**final, "best_epoch": result.best_epoch})
        self.client.log_figure(self.run_id, confusion_figure(result.confusion), "confusion.png")
        self.client.log_dict(self.run_id, result.to_json(), "result.json")
        with mlflow.start_run(run_id=self.run_id):  # closing it marks the run finished
            for kind, folder in self.run.paths.maps_of(self.name).items():
                for context, part in records[kind].groupby("split"):
                    dataset = from_pandas(part, source=str(folder), name=f"{kind}-{folder.name}")
                    mlflow.log_input(dataset, context=str(context))
            self._register(result)

    @answering()
    def log_benchmark(self, methods: Mapping[str, MethodSummary], files: Sequence[Path] = ()) -> None:
        """Put what the classifier does to images onto its run, if the store has it.

        What other methods do and the report's files go there, too.
        """
        run = self.finished()
        if run is None:
            return
        metrics: dict[str, float] = {}
        for name, summary in methods.items():
            metrics |= {f"bench_{name}_{key}": value for key, value in _figures(summary).items()}
        log_metrics(self.client, run.info.run_id, metrics)
        for key, value in self.run.config.steering.model_dump(mode="json").items():
            self.client.set_tag(run.info.run_id, f"bench.steering.{key}", str(value))
        for path in files:
            self.client.log_artifact(run.info.run_id, str(path), "report")

    def _register(self, result: ClassifierResult) -> None:
        """Add a version to the backbone's registered model; the best on validation is the champion of its kind of maps.

        Validation covers true and wrong prompts, so a classifier that reads the relation word cannot win.
        """
        folder = self.run.paths.classifier(self.name)
        source = TrainedClassifier.load(folder).source
        signature = ModelSignature(
            inputs=Schema(
                [
                    TensorSpec(np.dtype(np.float32), (-1, 2, source.channels, source.grid, source.grid), "maps"),
                    TensorSpec(np.dtype(np.int64), (-1,), "capture_index"),
                ]
            ),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(source.relations)))]),
        )
        name = f"relation-{Path(self.run.config.backbone.model).name}"
        accuracy = result.validation["accuracy"]
        info = mlflow.pyfunc.log_model(
            name="classifier",
            python_model=str(MODEL_CODE),
            artifacts={"classifier": str(folder)},
            signature=signature,
            pip_requirements=["learn-to-steer"],
            registered_model_name=name,
        )
        version = info.registered_model_version
        self.client.set_model_version_tag(name, version, "val_accuracy", f"{accuracy:.4f}")
        alias = ALIAS.format(maps=self.run.classifiers[self.name].maps)
        if accuracy > self._accuracy_of(name, alias):
            self.client.set_registered_model_alias(name, alias, version)

    def _accuracy_of(self, name: str, alias: str) -> float:
        try:
            champion = self.client.get_model_version_by_alias(name, alias)
        except MlflowException:
            return -1.0
        return float(champion.tags.get("val_accuracy", -1.0))


def _figures(summary: MethodSummary) -> dict[str, float]:
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
    if summary.lenient is not None:
        figures["lenient"] = summary.lenient.rate
    if summary.score is not None:
        figures["score"] = summary.score.mean
    return figures
