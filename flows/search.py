"""A budgeted search with Optuna.

MLflow holds the study and its trials. Optuna's pruner decides which points get images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
from optuna.trial import TrialState

from flows.points import attempt, stoppable
from flows.session import Pruned
from flows.standing import Standing
from l2s_core.classifier.experiment import ClassifierResult
from l2s_core.experiments.sweeps import PointResult, PointState, Range, SearchConfig, SweepConfig, point
from l2s_core.storage.lock import exclusive
from tasks.tracking.store import answering
from tasks.tracking.study_storage import study_storage
from tasks.tracking.sweep_run import SweepRun

RESULT = "result"  # attribute of a trial: what became of its point
STATES = {
    PointState.FINISHED: TrialState.COMPLETE,
    PointState.PRUNED: TrialState.PRUNED,
    PointState.FAILED: TrialState.FAIL,
}  # of a trial that ended, by its point's
STARTUP_TRIALS = 4  # before these have finished nothing is pruned


@answering()
def search(settings: SweepConfig, home: Path, rebuild: bool) -> tuple[SweepRun, list[PointResult]]:
    """Run what is left of the budget; return the study's run and its trials' points, those of earlier calls included.

    A trial that was stopped is drawn again, and is the same point: its draw depends on the seed, on its place in the
    search and on the trials that ended before it. Another search of this name in the folder waits. Raises UserError
    when the store stops answering.
    """
    plan = _plan(settings)
    busy = f"another search {settings.name} is using {home}; waiting for it to end"
    with exclusive(home, lambda: click.echo(busy, err=True), name=f".search-{settings.name}.lock"):
        study = _study(settings, home)
        tracking = SweepRun(home, settings, run_id=str(study._study_id))  # MLflow's storage has its runs' ids
        with stoppable(tracking, tracking.run_id):
            for trial in study.get_trials():
                if not _ended(trial):
                    tracking.drop(str(trial._trial_id))
            standing = Standing(settings, plan.trials, _results(study))
            for place in range(len(study.get_trials()), plan.trials):
                study.sampler = optuna.samplers.TPESampler(seed=_seed(plan.seed, place))
                _run_trial(study, standing, home, tracking, rebuild)
        return tracking, _results(study)


def _results(study: optuna.Study) -> list[PointResult]:
    """Return what became of the points of trials that ended, in their order."""
    ended = sorted(study.get_trials(), key=lambda trial: trial.number)
    return [PointResult.from_json(trial.user_attrs[RESULT]) for trial in ended]


def _plan(settings: SweepConfig) -> SearchConfig:
    if settings.search is None:
        raise ValueError(f"sweep {settings.name} is no search")
    return settings.search


def _study(settings: SweepConfig, home: Path) -> optuna.Study:
    """Return the study of these settings, the one that is there or a new one."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = study_storage(home)
    name = f"sweep {settings.name} {settings.digest()[:8]}"
    pruner = (
        optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
        if _plan(settings).prune
        else optuna.pruners.NopPruner()
    )
    if (
        storage.get_study_id_by_name_if_exists(name) is not None
    ):  # it would be created twice: MLflow allows one name for two runs
        return optuna.load_study(storage=storage, study_name=name, pruner=pruner)
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", pruner=pruner)


def _ended(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial came to its end; MLflow has one state for what was pruned and what was stopped."""
    stored = trial.user_attrs.get(RESULT)
    return stored is not None and STATES[PointResult.from_json(stored).state] == trial.state


def _seed(seed: int, place: int) -> int:
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0])


def _run_trial(study: optuna.Study, standing: Standing, home: Path, tracking: SweepRun, rebuild: bool) -> None:
    """Draw a point, run it, and tell the study what became of it."""
    settings = standing.settings
    plan = _plan(settings)
    trial = study.ask()
    chosen = point(settings, {key: _suggest(trial, key, values) for key, values in plan.space.items()})

    def judge(trained: ClassifierResult) -> None:
        if not plan.prune:
            return  # a figure that is the same for every point would be the first that MLflow's comparison shows
        trial.report(trained.validation["accuracy"], step=0)
        if trial.should_prune():
            raise Pruned

    run_id = tracking.describe(str(trial._trial_id), chosen)
    with standing.at(chosen):
        result = attempt(settings, chosen, home, tracking, run_id, rebuild, before_images=judge)
        standing.results.append(result)
    trial.set_user_attr(RESULT, result.to_json())
    study.tell(trial, result.metrics.get(settings.metric), state=STATES[result.state])


def _suggest(trial: optuna.Trial, key: str, values: tuple[Any, ...] | Range) -> Any:
    if not isinstance(values, Range):
        return trial.suggest_categorical(key, values)
    if values.whole:
        return trial.suggest_int(key, int(values.low), int(values.high), log=values.log)
    return trial.suggest_float(key, values.low, values.high, log=values.log)
