"""A budgeted search with Optuna: MLflow holds the study and its trials, Optuna's pruner decides which points get images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from flows.sweep import Pruned, attempt
from l2s_core.sweeps import Range, SweepConfig, point
from tasks.tracking.sweep_run import SweepRun, study_storage

ROW = "row"  # attribute of a trial: its row of the ranking
STARTUP_TRIALS = 4  # before these have finished nothing is pruned


class PointFailed(Exception):
    """A trial whose point failed; the search goes on."""


def search(settings: SweepConfig, home: Path, rebuild: bool) -> tuple[SweepRun, list[dict[str, Any]]]:
    """Run what is left of the budget; return the study's run and a row a trial, those of earlier calls included."""
    plan = settings.search
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = study_storage(home)
    study = optuna.create_study(
        storage=storage, study_name=f"sweep {settings.name} {settings.digest()[:8]}", direction="maximize", load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS) if plan.prune else optuna.pruners.NopPruner(),
    )  # fmt: skip
    for abandoned in study.get_trials(states=(TrialState.RUNNING,)):  # of a search that was killed
        storage.set_trial_state_values(abandoned._trial_id, TrialState.FAIL)
    done = [trial for trial in study.get_trials() if ROW in trial.user_attrs]
    study.sampler = optuna.samplers.TPESampler(seed=plan.seed + len(done))  # the same points whenever it is interrupted
    tracking = SweepRun(home, settings, run_id=study._study_id)

    def objective(trial: optuna.Trial) -> float:
        chosen = point(settings, {key: _suggest(trial, key, values) for key, values in plan.space.items()})

        def judge(result: Mapping[str, Any]) -> None:
            if not plan.prune:
                return  # a figure that is the same for every point would be the first that MLflow's comparison shows
            trial.report(result["validation"]["accuracy"], step=0)
            if trial.should_prune():
                raise Pruned

        row = attempt(settings, chosen, home, tracking, tracking.describe(trial._trial_id, chosen), rebuild, before_images=judge)
        trial.set_user_attr(ROW, row)
        if row["state"] == "pruned":
            raise optuna.TrialPruned
        if row["state"] == "failed":
            raise PointFailed(row["reason"])
        return row["metrics"][settings.metric]

    left = plan.trials - len(done)
    if left > 0:
        study.optimize(objective, n_trials=left, catch=(PointFailed,))
    return tracking, [trial.user_attrs[ROW] for trial in study.get_trials() if ROW in trial.user_attrs]


def _suggest(trial: optuna.Trial, key: str, values: tuple[Any, ...] | Range) -> Any:
    if not isinstance(values, Range):
        return trial.suggest_categorical(key, values)
    if values.whole:
        return trial.suggest_int(key, int(values.low), int(values.high), log=values.log)
    return trial.suggest_float(key, values.low, values.high, log=values.log)
