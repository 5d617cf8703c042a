"""What MLflow holds of points and trainings that failed, were stopped, or lost the store."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from helpers import forks
from helpers.judged import MISSING, judged_image
from helpers.runs import run_of
from helpers.small_run import SETTINGS, begin, inherit, shared_environment
from helpers.tracking import mlflow_client
from mlflow.exceptions import MlflowException

from l2s_core.config import INVERTED, MAIN, PLAIN, TRAJECTORIES, own_overrides, quick_overrides
from l2s_core.errors import UserError
from l2s_core.evaluation.judged_image import FILE, write_judged
from l2s_core.evaluation.statistics.aggregate import MethodSummary
from l2s_core.experiments.sweeps import SweepConfig, points_of
from tasks import training
from tasks.tracking.benchmark_run import BenchmarkRun
from tasks.tracking.classifier_run import ADDRESS, ClassifierRun
from tasks.tracking.metrics import HEADLINE, benchmark_metrics, best_metrics, point_metrics, training_metrics
from tasks.tracking.sweep_run import SweepRun
from tasks.tracking.titles import NOTE, benchmark_title, classifier_title
from tasks.tracking.views import PREFIX, SWEEPS, view_url

pytestmark = [pytest.mark.server, pytest.mark.slow]

SWEEP = SweepConfig(name="x", grid={"steering.updates": (1, 2)})


def runs_of(home: Path) -> dict[str, Any]:
    """Every run of a home's own store by its name."""
    client = mlflow_client(home)
    return {
        run.info.run_name: run
        for run in client.search_runs([client.get_experiment_by_name("learn-to-steer").experiment_id])
    }


def test_a_point_that_failed_or_was_stopped_begins_again_without_its_error(tmp_path: Path) -> None:
    tracking = SweepRun(tmp_path, SWEEP)
    (point, _) = points_of(SWEEP)
    run_id = tracking.start(point)
    tracking.fail(run_id, "no memory")
    (failed,) = [run for run in runs_of(tmp_path).values() if run.info.run_id == run_id]
    assert failed.info.status == "FAILED" and failed.data.tags["l2s.error"] == "no memory"
    tracking.stop(tracking.run_id)
    assert runs_of(tmp_path)["sweep x"].info.status == "KILLED"
    again = SweepRun(tmp_path, SWEEP)
    assert again.run_id == tracking.run_id and again.start(point) == run_id
    found = runs_of(tmp_path)
    assert len(found) == 2 and all(
        run.info.status == "RUNNING" and "l2s.error" not in run.data.tags for run in found.values()
    )
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"")
    again.succeed(run_id, {"correct": 1.0}, picture)
    assert runs_of(tmp_path)[failed.info.run_name].info.status == "FINISHED"


def benchmarked(home: Path, right: int, gradients: int, **overrides: Any) -> str:
    """Log a benchmark of four images of plain and of steered sampling; return its run's id."""
    run = run_of(home, **overrides)
    images = {PLAIN: [judged_image(n, *[MISSING] * (n > 0)) for n in range(4)]}
    images[MAIN] = [judged_image(n, *[MISSING] * (n >= right), gradients=gradients) for n in range(4)]
    for method, judged in images.items():
        write_judged(run.paths.verdicts(method) / FILE, judged)
    summaries = {PLAIN: MethodSummary.of(images[PLAIN]), "steered": MethodSummary.of(images[MAIN])}
    return BenchmarkRun(run, MAIN, summaries, {PLAIN: PLAIN, "steered": MAIN}).log()


def test_two_configurations_that_share_a_classifier_keep_their_own_figures(tmp_path: Path) -> None:
    """The second wrote its figures, settings and report onto the run of the first."""
    run = run_of(tmp_path)
    tracked = ClassifierRun(run, MAIN)
    client = tracked.client
    parent = client.create_run(tracked.experiment, tags={ADDRESS: tracked.address}, run_name="mini-sd/main")
    client.set_terminated(parent.info.run_id, "FINISHED")
    first = benchmarked(tmp_path, 3, 30)
    second = benchmarked(tmp_path, 2, 6, steering__updates=5)
    assert run_of(tmp_path, steering__updates=5).paths.classifier(MAIN).name == tracked.address
    assert benchmarked(tmp_path, 3, 30) == first != second  # again: nothing new
    for run_id, correct, gradients, updates in ((first, 0.75, 30, "2"), (second, 0.5, 6, "5")):
        found = client.get_run(run_id).data
        assert (
            found.metrics["bench/steered/correct"] == correct and found.metrics["bench/steered/gradients"] == gradients
        )
        assert found.params["steering.updates"] == updates and found.params["benchmark.suite"] == "test"
        assert found.tags["mlflow.parentRunId"] == parent.info.run_id and found.tags["l2s.run_id"].startswith(
            "mini-sd-"
        )
        rows = json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/prompts.json"))
        assert rows["columns"][:2] == ["method", "item_id"] and len(rows["data"]) == 8
    page = client.get_run(parent.info.run_id).data
    assert page.metrics["bench/steered/correct"] == 0.5 and page.metrics["best/steered/correct"] == 0.75
    assert page.tags["l2s.bench.latest"] == second and page.tags["l2s.bench.best"] == first
    assert '"steering.updates": 5' in page.tags["l2s.bench.latest.settings"]
    history = client.get_metric_history(parent.info.run_id, "bench/steered/correct")
    assert [point.value for point in history] == [0.75, 0.5]


def test_points_that_share_a_name_are_told_apart_and_a_reused_classifier_says_whose_it_is(tmp_path: Path) -> None:
    """Two classifiers of one sweep were both "widths/main", and a point with a reused one showed nothing of it."""
    sweep = SweepConfig(name="widths", grid={"classifier.width": (16, 32), "steering.updates": (1, 2)})
    tracking = SweepRun(tmp_path, sweep)
    how = []
    for point in points_of(sweep):
        overrides = {key.replace(".", "__"): value for key, value in point.overrides.items()}
        run = replace(run_of(tmp_path, **overrides), varied=point.varied)
        classifier = ClassifierRun(run, MAIN)
        if classifier.finished() is None:
            classifier.start()
            classifier.fail()  # stops the watch on the machine
            tracking.client.set_terminated(classifier.run_id, "FINISHED")
        run_id = tracking.start(point)
        tracking.show_classifier(run_id, run)
        shown = tracking.client.get_run(run_id).data.tags
        how.append(shown["l2s.point.classifier"])
        assert shown["l2s.varied"] == f"classifier.width={point.varied['classifier.width']}, " + (
            f"steering.updates={point.varied['steering.updates']}"
        )
        assert tracking.client.get_run(shown["l2s.point.classifier_run"]).data.tags[ADDRESS] == classifier.address
    found = runs_of(tmp_path)
    assert {"widths/main, width=16", "widths/main, width=32"} < set(found) and len(found) == 7
    named = found["widths/main, width=16"].data.tags
    assert named["l2s.varied"] == "classifier.width=16" and ": classifier.width=16. Its run" in named[NOTE]
    assert [text.partition(" ")[0] for text in how] == ["trained", "reused", "trained", "reused"]
    assert how[1] == f"reused from {named['l2s.run_id']}"


def test_the_saved_view_of_sweeps_shows_points_without_their_parent(tmp_path: Path) -> None:
    tracking = SweepRun(tmp_path, SWEEP)
    started = {tracking.start(point) for point in points_of(SWEEP)}
    experiment = tracking.client.get_experiment_by_name("learn-to-steer")
    state = json.loads(json.loads(experiment.tags[PREFIX + SWEEPS])["state"])
    shown = tracking.client.search_runs([experiment.experiment_id], state["searchFilter"])
    assert {run.info.run_id for run in shown} == started
    assert state["orderByKey"] == f"metrics.`{HEADLINE}`" == state["columnOrder"][1]
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"  # pages of runs, not of traces
    assert view_url("http://x", "1", SWEEPS).endswith("viewStateShareKey=l2s-sweeps&workflowType=machine_learning")


def test_metrics_stand_in_sections_what_differs_first_and_plain_sampling_last() -> None:
    """`bench_plain_correct`, the same for all classifiers, was the first chart; a comparison opened on train_loss."""
    methods = {"plain": {"correct": 1 / 3}, "best-of-4": {"correct": 0.5}, "steered": {"correct": 2 / 3}}
    named = benchmark_metrics(methods)
    assert named == {"bench/steered/correct": 0.6667, "bench/best-of-4/correct": 0.5, "plain/correct": 0.3333}
    assert next(iter(named)) == HEADLINE and sorted(named)[-1] == "plain/correct"
    assert best_metrics(named) == {"best/steered/correct": 0.6667, "best/best-of-4/correct": 0.5}
    epoch = training_metrics({"train_loss": 1.5, "lr": 0.1, "val_loss": 1.25, "val_accuracy": 0.5})
    assert list(epoch) == ["val/accuracy", "train/loss", "train/lr", "val/loss"]
    point = point_metrics({"correct": 0.5, "plain_correct": 0.25, "test_accuracy": 1.0, "train_seconds": 3.0})
    assert list(point) == [HEADLINE, "plain/correct", "test/accuracy", "train/seconds"]


def test_a_name_says_the_users_own_settings_and_not_those_of_the_quick_preset(tmp_path: Path) -> None:
    own = {"classifier.width": 16, "steering.updates": 2}
    assert own_overrides({**quick_overrides("mini-sd"), **own}) == own
    run = replace(run_of(tmp_path), varied=own)
    assert classifier_title(run, "main") == "mini-sd/main, width=16"
    assert benchmark_title(run, "main") == "mini-sd/main: pairs test, width=16, updates=2"
    long = replace(run, varied={"data.train": "x" * 200, "data.val": 1})
    assert classifier_title(long, "main") == "mini-sd/main, 2 own settings"


class Away:
    """A client of a store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        def ask(*_: Any, **__: Any) -> None:
            raise MlflowException("connection refused")

        return ask


def test_a_store_that_goes_away_is_one_clear_line_whatever_a_sweep_asks_of_it(tmp_path: Path) -> None:
    tracking = SweepRun(tmp_path, SWEEP)
    (point, _) = points_of(SWEEP)
    tracking.client = Away()
    asks = (
        lambda: tracking.start(point),
        lambda: tracking.describe("1", point),
        lambda: tracking.succeed("1", {"correct": 1.0}, tmp_path),
        lambda: tracking.fail("1", "why"),
        lambda: tracking.drop("1"),
        lambda: tracking.finish([], None),
    )
    for ask in asks:
        with pytest.raises(
            UserError, match=r"stopped answering \(connection refused\); start it again, and the same command goes on"
        ):
            ask()
    tracking.stop("1")  # the process ends; nobody is there to read an error


def test_a_training_that_fails_closes_its_run_and_stops_watching_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(training, "run_experiment", broken)
    before = threading.enumerate()  # other tests' runs may be watched for ten seconds more
    with pytest.raises(RuntimeError, match="no memory"):
        training.train_classifier.fn(run_of(tmp_path), MAIN, {INVERTED: [], TRAJECTORIES: []})
    assert [run.info.status for run in runs_of(tmp_path).values()] == ["FAILED"]
    watching = [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]
    assert not [thread for thread in watching if thread not in before]


@pytest.mark.parametrize("kind", ["grid", "search"])
def test_a_sweep_that_is_stopped_is_killed_in_mlflow_and_goes_on(undisturbed: Path, tmp_path: Path, kind: str) -> None:
    """On the dataset and the classifier of the small run: the signal comes while the first point makes images."""
    home = tmp_path / "home"
    config = tmp_path / "s.yaml"
    inherit(undisturbed, home, "catalogue", "scenes", "noise", "maps", "trajectories", "classifier")
    fixed = {key: value for key, value in SETTINGS.items() if key not in ("name", "classifiers")} | {"classifiers": {}}
    search = {"trials": 2, "space": {"steering.step_size": {"low": 0.05, "high": 0.2}}, "prune": False}
    what = {"grid": {"steering.updates": [1, 3]}} if kind == "grid" else {"search": search}
    config.write_text(yaml.safe_dump({"name": "stopped", "set": fixed, **what}))
    sweep = [sys.executable, "-m", "flows.cli", "sweep", str(config), "--home", str(home)]
    process = begin(sweep)
    deadline = time.monotonic() + 200
    while not list(home.glob("stages/samples/*/[!.]*")):
        assert process.poll() is None and time.monotonic() < deadline, "the sweep ended before it could be stopped"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in output, output
    stopped = runs_of(home)
    assert len(stopped) == 3 and sorted(run.info.status for run in stopped.values()) == [
        "FINISHED",
        "KILLED",
        "KILLED",
    ], stopped  # the classifier's own
    done = forks.run(sweep, env=shared_environment())
    assert done.returncode == 0 and "2 of 2 points" in done.stdout, done.stderr
    finished = runs_of(home)
    assert sum("mlflow.parentRunId" in run.data.tags for run in finished.values()) == 2
    assert all(run.info.status == "FINISHED" and "l2s.error" not in run.data.tags for run in finished.values())
    parents = [
        {run.info.run_id for name, run in found.items() if name.startswith("sweep ")} for found in (stopped, finished)
    ]
    assert parents[0] == parents[1] and len(parents[0]) == 1
