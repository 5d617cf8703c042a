"""One MLflow run per trained classifier: parameters, curves, figures, dataset, registered model, benchmark."""

from __future__ import annotations

from collections.abc import Mapping
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
from l2s_core.dataset.schema import MapSource
from l2s_core.evaluation.run import Run
from l2s_core.hashing import digest
from l2s_core.report.figures import confusion_figure
from l2s_core.sizes import size_text
from l2s_core.storage.runs import run_id_of
from tasks.tracking.champion import Validation, crown
from tasks.tracking.metrics import DIGITS, training_metrics
from tasks.tracking.store import (
    REGISTERED,
    answering,
    experiment_id,
    find_run,
    log_metrics,
    log_params,
    open_store,
    registered_name,
    watch_machine,
    without_notes,
)
from tasks.tracking.titles import NOTE, RUN_ID, VARIED, classifier_title, learnt, varied_text

ADDRESS = "l2s.classifier"  # tag: the classifier's address; what makes logging idempotent
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
            RUN_ID: run_id_of(self.run.paths),
            VARIED: varied_text(learnt(self.run)),
            NOTE: self._note(),
        }
        run = self.client.create_run(self.experiment, run_name=classifier_title(self.run, self.name), tags=tags)
        self.run_id = run.info.run_id
        sections = {
            "classifier": self.run.classifiers[self.name],
            "capture": config.capture,
            "data": config.data,
            "inversion": config.inversion,
            "backbone": config.backbone,
        }
        settings = {
            f"{section}.{key}": value
            for section, values in sections.items()
            for key, value in values.model_dump(mode="json").items()
        }
        log_params(self.client, self.run_id, settings | {"trajectories": config.trajectories})
        self._monitor = watch_machine(self.run_id)
        return self.run_id

    def _note(self) -> str:
        config = self.run.config
        varied = varied_text(learnt(self.run))
        of = f"The classifier {self.name} of {config.name}, for {config.backbone.model}"
        return f"{of}{f': {varied}' if varied else ''}. Its run in `l2s runs`: {run_id_of(self.run.paths)}."

    def epoch(self, number: int, row: Mapping[str, float]) -> None:
        """Log one epoch's losses and accuracies.

        Training goes on when the store is away, and `finish` logs what it missed.
        """
        try:
            log_metrics(self.client, self.run_id, training_metrics(row), number)
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
            log_metrics(self.client, self.run_id, training_metrics(row), number)
        final = {f"test_{k}": v for k, v in result.test.items()} | {
            f"val_both_{k}": v for k, v in result.validation.items()
        }
        final |= {"best_epoch": result.best_epoch, "seconds": result.seconds}
        rounded = {key: round(value, DIGITS) for key, value in final.items()}
        log_metrics(self.client, self.run_id, training_metrics(rounded))
        self.client.log_figure(
            self.run_id, confusion_figure(result.confusion, self.run.config.data.labels), "confusion.png"
        )
        self.client.log_dict(self.run_id, result.to_json(), "result.json")
        with mlflow.start_run(run_id=self.run_id):  # closing it marks the run finished
            for kind, folder in self.run.paths.maps_of(self.name).items():
                for context, part in records[kind].groupby("split"):
                    dataset = from_pandas(part, source=str(folder), name=f"{kind}-{folder.name}")
                    mlflow.log_input(dataset, context=str(context))
            self._register(result, records)

    def _register(self, result: ClassifierResult, records: Mapping[str, pd.DataFrame]) -> None:
        """Add a version to the backbone's registered model; the best on one validation set is its maps' champion.

        Validation covers true and wrong prompts, so a classifier that reads the relation word cannot win.
        """
        folder = self.run.paths.classifier(self.name)
        source = TrainedClassifier.load(folder).source
        signature = ModelSignature(
            inputs=Schema(
                [
                    TensorSpec(np.dtype(np.float32), (-1, source.stacks, source.channels, *source.cells), "maps"),
                    TensorSpec(np.dtype(np.int64), (-1,), "capture_index"),
                ]
            ),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(source.relations)))]),
        )
        name = registered_name(self.run.config.backbone.model)
        with without_notes():
            info = mlflow.pyfunc.log_model(
                name="classifier",
                python_model=str(MODEL_CODE),
                artifacts={"classifier": str(folder)},
                signature=signature,
                pip_requirements=["learn-to-steer"],
                registered_model_name=name,
            )
        maps = self.run.classifiers[self.name].maps
        measured = Validation(
            maps=maps,
            data=digest([folder.name for folder in self.run.paths.maps_of(self.name).values()]),
            records=sum(int((part["split"] == "val").sum()) for part in records.values()),
            accuracy=result.validation["accuracy"],
        )
        for key, value in measured.tags().items():
            self.client.set_model_version_tag(name, info.registered_model_version, key, value)
        self.client.update_model_version(
            name, info.registered_model_version, self._version_note(source, result, measured)
        )
        self.client.update_registered_model(
            name, f"Classifiers of relations that steer {name.removeprefix(REGISTERED)}."
        )
        crown(self.client, name, maps)

    def _version_note(self, source: MapSource, result: ClassifierResult, measured: Validation) -> str:
        """Return what the page of a registered version says of it."""
        return (
            f"{self._note()} It reads {source.channels} attention maps of {size_text(source.grid)}, at "
            f"{len(source.steps)} steps, and tells {', '.join(source.relations)}. Test accuracy "
            f"{result.test['accuracy']:.3f}, validation {measured.accuracy:.3f} of {measured.records} records "
            f"({measured.maps} maps, set {measured.data})."
        )
