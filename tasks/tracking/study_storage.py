"""Optuna's storage in MLflow: a study is a run, its trials are that run's children."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.optuna.storage import MlflowStorage
from optuna.trial import FrozenTrial

from tasks.tracking.store import experiment_id, open_store


class StudyStorage(MlflowStorage):
    """MLflow's own, which asks four times for every trial whenever Optuna looks; one that ended is asked for once."""

    def __init__(self, experiment: str) -> None:
        super().__init__(experiment)
        self._ended: dict[Any, FrozenTrial] = {}

    def get_trial(self, trial_id: Any) -> FrozenTrial:
        """Return a trial by its run's id; nothing changes one that ended."""
        if trial_id in self._ended:
            return self._ended[trial_id]
        trial: FrozenTrial = super().get_trial(trial_id)
        if trial.state.is_finished():
            self._ended[trial_id] = trial
        return trial


def study_storage(home: Path) -> StudyStorage:
    """Return the storage of this folder's searches."""
    return StudyStorage(experiment_id(open_store(home)))
