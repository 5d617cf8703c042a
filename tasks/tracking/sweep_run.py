"""The MLflow runs of a sweep: a parent, and a child for every point."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mlflow.entities import Run as MlflowRun
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from l2s_core.config import MAIN
from l2s_core.evaluation.run import Run
from l2s_core.experiments.sweeps import Point, PointResult, SweepConfig
from l2s_core.storage.runs import run_id_of
from tasks.tracking.classifier_run import ClassifierRun
from tasks.tracking.metrics import best_metrics, point_metrics
from tasks.tracking.store import PARENT, answering, experiment_id, find_run, log_metrics, log_params, open_store
from tasks.tracking.titles import NOTE, RUN_ID, VARIED, varied_text

SWEEP = "l2s.sweep"
IDENTITY = "l2s.sweep.id"
POINT = "l2s.point"
ERROR = "l2s.error"
CLASSIFIER = "l2s.point.classifier"  # how a point came to its classifier
CLASSIFIER_RUN = "l2s.point.classifier_run"  # the id of that classifier's own run


class SweepRun:
    """The parent run of a sweep, found again by the sweep's settings, with a child a point.

    A search hands in the run of its study, and runs of its trials to `describe`; its study closes those. Raises
    UserError when the store stops answering.
    """

    @answering()
    def __init__(self, home: Path, sweep: SweepConfig, run_id: str | None = None) -> None:
        self.client = open_store(home)
        self.sweep = sweep
        self.closes_points = run_id is None
        self.run_id = run_id or self._parent()
        self._reopen(self.client.get_run(self.run_id))
        self._tag(self.run_id, {SWEEP: sweep.name, POINT: "parent"})
        self.client.log_dict(self.run_id, sweep.model_dump(mode="json"), "sweep.json")

    def _parent(self) -> str:
        identity = self.sweep.digest()
        found = find_run(self.client, f"tags.`{IDENTITY}` = '{identity}'")
        return found.info.run_id if found else self._create(f"sweep {self.sweep.name}", {IDENTITY: identity})

    @answering()
    def start(self, point: Point) -> str:
        """Begin, or begin again, the run of a point; return its id."""
        found = find_run(self.client, f"tags.`{PARENT}` = '{self.run_id}' and tags.`{POINT}` = '{point.point_id}'")
        if found:
            return self._reopen(found)
        run_id = self._create(point.label, {PARENT: self.run_id})
        log_params(self.client, run_id, point.varied)
        return self.describe(run_id, point)

    @answering()
    def describe(self, run_id: str, point: Point) -> str:
        """Name and tag the run of a point; return its id."""
        self._tag(
            run_id,
            {
                SWEEP: self.sweep.name,
                POINT: point.point_id,
                VARIED: varied_text(point.varied),
                "mlflow.runName": f"{self.sweep.name}: {point.label}",
            },
        )
        return run_id

    @answering()
    def show_classifier(self, run_id: str, run: Run) -> None:
        """Say on a point's run which classifier it has, and whether that was trained for it or is another run's."""
        found = ClassifierRun(run, MAIN).finished()
        if found is None:
            return
        trained_by = found.data.tags.get(RUN_ID)
        how = "trained for this point" if trained_by == run_id_of(run.paths) else f"reused from {trained_by}"
        note = f"Its classifier, {found.info.run_name}: {how}. Its run in `l2s runs`: {run_id_of(run.paths)}."
        self._tag(
            run_id,
            {CLASSIFIER: how, CLASSIFIER_RUN: found.info.run_id, RUN_ID: run_id_of(run.paths), NOTE: note},
        )

    @answering()
    def succeed(self, run_id: str, metrics: Mapping[str, float], picture: Path) -> None:
        """Put a point's figures and pictures onto its run and close it."""
        log_metrics(self.client, run_id, point_metrics(metrics))
        self.client.log_artifact(run_id, str(picture))
        self._close(run_id, "FINISHED")

    @answering()
    def fail(self, run_id: str, reason: str, state: str = "FAILED") -> None:
        """Close a point's run with what went wrong."""
        self.client.set_tag(run_id, ERROR, reason[:5000])
        self._close(run_id, state)

    def stop(self, run_id: str) -> None:
        """Close the run of a point, or the sweep's own, that is stopped in the middle.

        A store that is away is not waited for.
        """
        with suppress(MlflowException):
            self.client.set_tag(run_id, ERROR, "stopped")
            self.client.set_terminated(run_id, "KILLED")

    @answering()
    def drop(self, run_id: str) -> None:
        """Delete the run of a trial that did not come to its end."""
        self.client.delete_run(run_id)

    @answering()
    def finish(self, files: list[Path], best: PointResult | None) -> None:
        """Keep the ranking and the plot on the parent, with the best point's figures, and close it."""
        for path in files:
            self.client.log_artifact(self.run_id, str(path))
        if best is not None:
            log_metrics(self.client, self.run_id, best_metrics(point_metrics(best.metrics)))
            self.client.set_tag(self.run_id, "l2s.best", best.label)
        self.client.set_terminated(self.run_id, "FINISHED")

    def _close(self, run_id: str, state: str) -> None:
        if self.closes_points:
            self.client.set_terminated(run_id, state)

    def _reopen(self, run: MlflowRun) -> str:
        """Take a run up again, without what it ended with; return its id."""
        if ERROR in run.data.tags:
            self.client.delete_tag(run.info.run_id, ERROR)
        self.client.update_run(run.info.run_id, status="RUNNING")
        return run.info.run_id

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        return self.client.create_run(experiment_id(self.client), run_name=name, tags=dict(tags)).info.run_id

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
