"""Sweeps: points and what they share, a real one with a bad point and a second call, a search that goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from helpers.judged import run_summary
from helpers.small_run import SETTINGS, shards
from helpers.tracking import mlflow_client
from mlflow.exceptions import MlflowException

from flows import search as searching
from flows.cli import main
from flows.options import overrides_of
from flows.session import Pruned
from flows.standing import Standing
from l2s_core.config import RunConfig, load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.run_summary import FILE, FORMAT
from l2s_core.experiments.sweeps import (
    FOLDER,
    PointResult,
    PointState,
    SweepConfig,
    load_sweep,
    points_of,
    rank,
    settings_text,
)
from l2s_core.report.ranking import cost_figure
from l2s_core.storage import runs
from l2s_core.storage.versioned import write_versioned

pytestmark = [pytest.mark.server, pytest.mark.slow]

TINY = {**{k: v for k, v in SETTINGS.items() if k not in ("name", "classifiers")}, "classifiers": {}}


def write(path: Path, **settings) -> str:
    path.write_text(yaml.safe_dump({"name": "tiny-sweep", "set": TINY, **settings}))
    return str(path)


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_sweep_has_valid_points(path: Path) -> None:
    sweep = load_sweep(path.stem)
    assert sweep.name == path.stem
    for point in points_of(sweep):
        assert (
            load_run_config(sweep.config, point.overrides).benchmark.suite == "dev"
        )  # never the suite that is reported


def test_points_are_the_product_in_order_and_their_ids_their_settings() -> None:
    sweep = SweepConfig(name="x", grid={"classifier.width": (8, 16), "data.seed": (0, 1, 2)}, set={"data.train": 5})
    points = points_of(sweep)
    assert [tuple(p.varied.values()) for p in points] == [(w, s) for w in (8, 16) for s in (0, 1, 2)]
    assert len({p.point_id for p in points}) == 6 and all(p.overrides["data.train"] == 5 for p in points)
    assert points[1].label == "width=8, seed=1"
    assert settings_text({"data.relations": ["above"], "benchmark.relations": ["above", "below"], "seed": 1}) == (
        "data.relations=above, benchmark.relations=above and below, seed=1"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": {"a": [1]}, "points": [{}]}, "give one of grid, points and search"),
        ({}, "give one of grid, points and search"),
        ({"grid": {"classifier.width": []}}, "grid has no value for classifier.width"),
        ({"gird": {"a": [1]}}, "unknown key 'gird'; did you mean 'grid'"),
        ({"grid": {"a": [1]}, "metric": "speed"}, "metric: "),
        ({"search": {"trials": 2, "space": {"a": {"low": 2, "high": 1}}}}, "low must lie below high"),
    ],
)
def test_mistakes_in_a_sweep(tmp_path: Path, settings: dict, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({"name": "x", **settings}))
    with pytest.raises(UserError, match=message):
        load_sweep(path)
    done = CliRunner().invoke(main, ["sweep", "classifers", "--home", str(tmp_path)])
    assert done.exit_code == 2 and "no sweep 'classifers'; did you mean 'classifiers'" in done.output


def test_set_and_quick_hold_for_every_point_and_a_bad_key_is_blamed_on_where_it_stands(tmp_path: Path) -> None:
    path = write(tmp_path / "s.yaml", grid={"classifier.width": [8, 16]}, set={"benchmark": "dev"})
    assert {p.overrides["classifier.epochs"] for p in points_of(load_sweep(path, {"classifier.epochs": 5}))} == {5}
    quick = load_sweep(path, overrides_of((), quick=True, config=path))
    assert quick.name == "tiny-sweep-quick" and quick.set["data.train"] == 10 and quick.set["benchmark"] == "dev"
    misspelt = write(tmp_path / "m.yaml", grid={"classifier.widht": [8, 16]}, set={})
    asks = {
        (path, "--set", "data.tran=5"): "error: --set: unknown key 'data.tran'; did you mean 'train'",
        (path, "--set", "classifier.width=5"): f"--set: classifier.width is what the points of {path} vary",
        (path, "--set", "backbone.model=nowhere"): "no model 'nowhere'",
        (misspelt, "--dry-run"): f"cannot run, {misspelt}: unknown key 'classifier.widht'; did you mean 'width'",
        (path, "--quick", "--dry-run"): "tiny-sweep-quick: 2 points of mini-sd",
    }
    for arguments, message in asks.items():
        output = CliRunner().invoke(main, ["sweep", *arguments, "--home", str(tmp_path / "home")]).output
        assert message in output and "Traceback" not in output


def test_before_each_point_stands_how_far_the_sweep_is(capsys: pytest.CaptureFixture) -> None:
    settings = SweepConfig(name="x", grid={"classifier.width": (8, 16, 32)})
    standing = Standing(settings, 3)
    for point, correct in zip(points_of(settings), (0.5, 0.75, 0.25), strict=True):
        with standing.at(point):
            standing.results.append(
                PointResult.of(point, PointState.FINISHED, metrics={"correct": correct, "seconds": 1.0})
            )
    first, second, third = capsys.readouterr().err.split("\n\n")
    assert first.strip() == "point 1 of 3: width=8"
    assert second == "point 2 of 3: width=16; best so far width=8, correct 0.50; about 10 s left"
    assert third.startswith("point 3 of 3: width=32; best so far width=16, correct 0.75; about 10 s left")


def result(label: str, state: PointState = PointState.FINISHED, **values: Any) -> PointResult:
    return PointResult(label=label, point=label, varied={}, state=state, **values)


def test_rank_and_front() -> None:
    rows = [
        result(name, metrics={"correct": correct, "seconds": seconds})
        for name, correct, seconds in (("slow", 0.8, 3.0), ("fast", 0.8, 1.0), ("bad", 0.2, 2.0), ("best", 0.9, 4.0))
    ] + [result("none", PointState.FAILED, reason="x")]
    ranked = rank(rows, "correct")
    assert [PointResult.from_json(json.loads(json.dumps(row.to_json()))) for row in rows] == rows
    assert [row.label for row in ranked] == ["best", "fast", "slow", "bad"]
    (line,) = cost_figure(ranked, "correct").axes[0].lines
    assert list(zip(*line.get_data(), strict=True)) == [(1.0, 0.8), (4.0, 0.9)]


def left(config: str, home: Path) -> tuple[str, dict[str, list[int]]]:
    """What a dry run prints.

    For each stage how many are wanted, how many different ones, how many are there, and MB.
    """
    output = invoke("sweep", config, "--dry-run", "--home", str(home))
    rows = (line.split() for line in output.partition("stage ")[2].splitlines())
    return output, {
        " ".join(row[:-5]): [int(cell) for cell in row[-5:] if cell.isdigit()]
        for row in rows
        if len(row) > 5 and row[-2] == "?"
    }


def test_the_dry_run_counts_every_method_and_needs_no_rehearsal_for_disk(tmp_path: Path) -> None:
    """Further classifiers and methods were once left out, though a sweep makes their classifiers and images."""
    grid = {"steering.updates": [1, 2]}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"name": "a", "set": {"benchmark": "dev"}, "grid": grid}))
    (tmp_path / "b.yaml").write_text(
        yaml.safe_dump({"name": "b", "set": {"benchmark": "dev", "classifiers": {}}, "grid": grid})
    )
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump({"name": "c", "config": "baselines", "set": {"benchmark": "dev"}, "grid": grid})
    )
    (_, classifiers), (_, none), (output, methods) = (left(str(tmp_path / f"{name}.yaml"), tmp_path) for name in "abc")
    assert classifiers["train"] == [6, 3, 0] and classifiers["sample steered"][:3] == [6, 6, 0]
    assert none["train"] == [2, 1, 0] and none["sample steered"][:3] == [2, 2, 0]
    assert "sample further methods" not in classifiers and methods["sample further methods"][:2] == [
        10,
        5,
    ]  # five, each with a schedule of its own
    assert (
        classifiers["sample steered"][3] == pytest.approx(3 * none["sample steered"][3], abs=2)
        and none["capture"][3] == 154
    )
    assert "at most 331 MB; 'l2s rehearse baselines' measures" in output


def test_the_dry_run_knows_hours_from_a_finished_run_of_the_same_model_alone(tmp_path: Path) -> None:
    """It said "hours ?" until a rehearsal, though the report of the same configuration had measured all of them."""
    config = write(tmp_path / "s.yaml", set={"benchmark": "dev", "classifiers": {}}, grid={"classifier.width": [8, 16]})
    own = load_run_config("mini-sd")

    def dry_run(of: RunConfig) -> list[str]:
        told = {**run_summary(train_seconds=360.0).to_json(), "config": of.model_dump(mode="json")}
        write_versioned(tmp_path / "reports" / "mini-sd" / FILE, FORMAT, told)
        return invoke("sweep", config, "--dry-run", "--home", str(tmp_path)).splitlines()

    lines = dry_run(own)
    assert next(line for line in lines if line.startswith("train ")).split()[-5:] == ["2", "2", "0", "0.20", "?"]
    assert not any(line.split()[-2] == "?" for line in lines if line.startswith(("scenes", "invert", "sample plain")))
    plain = next(line for line in lines if line.startswith("sample plain")).split()
    assert float(plain[-2]) == pytest.approx(144 / 3600, abs=0.006)  # so many images, one second each
    assert any(line.startswith("at most ") and "without the training" not in line for line in lines)
    other = dry_run(load_run_config("mini-sd", {"capture.layers": ["mid_block*"]}))
    assert next(line for line in other if line.startswith("train ")).split()[-2] == "?"


def test_the_dry_run_of_a_search_is_a_bound_for_all_its_points(tmp_path: Path) -> None:
    output, rows = left("steering", tmp_path)
    assert (
        "a search of 12 points of mini-sd" in output
        and "updates=1, until_step=4" in output
        and "updates=15, until_step=10" in output
    )
    assert rows["capture"][:3] == rows["train"] == [12, 1, 0] and rows["sample steered"][:3] == [12, 12, 0]


def test_a_sweep_shares_stages_outlives_a_bad_point_and_continues(tmp_path: Path) -> None:
    config, home = write(tmp_path / "s.yaml", grid={"classifier.width": [8, 16, -3]}), tmp_path / "home"
    dry = invoke("sweep", config, "--dry-run", "--home", str(home))
    assert "3 points" in dry and "width=-3: cannot run, " in dry and "capture" in dry and not (home / "stages").exists()
    output = invoke("sweep", config, "--home", str(home))
    assert "2 of 3 points" in output and "width=-3: failed" in output and "greater than or equal to 4" in output
    stages = home / "stages"
    assert {name: len(list((stages / name).glob("*"))) for name in ("noise", "maps", "classifier", "samples")} == {
        "noise": 1,
        "maps": 1,
        "classifier": 2,
        "samples": 3,
    }
    table = pd.read_csv(home / "sweeps" / "tiny-sweep" / "ranking.csv")
    assert list(table["rank"]) == [1, 2] and set(table["classifier.width"]) == {8, 16}
    before = shards(home)
    invoke("sweep", config, "--home", str(home))
    assert shards(home) == before
    client = mlflow_client(home)
    experiment = client.get_experiment_by_name("learn-to-steer").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`l2s.point` = 'parent'")
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert sorted(c.info.status for c in children) == ["FAILED", "FINISHED", "FINISHED"]
    good = [c for c in children if c.info.status == "FINISHED"]
    assert {c.data.params["classifier.width"] for c in good} == {"8", "16"}
    figures = {f"bench/steered/{figure}" for figure in ("correct", "all_found", "seconds", "gradients")}
    assert all(figures | {"plain/correct", "test/accuracy"} <= set(c.data.metrics) for c in good)
    assert "greater than or equal to 4" in next(c for c in children if c.info.status == "FAILED").data.tags["l2s.error"]
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} == {
        "sweep.json",
        "ranking.csv",
        "points.json",
        "cost.png",
    }
    assert parent.data.metrics["best/steered/correct"] == max(c.data.metrics["bench/steered/correct"] for c in good)
    damaged = next(stages.glob("noise/*/*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:5000])
    assert (
        f"{damaged.name} is damaged" in invoke("sweep", config, "--home", str(home)) and damaged.stat().st_size == 5000
    )
    assert (
        "2 of 3 points" in invoke("sweep", config, "--rebuild", "--home", str(home)) and damaged.stat().st_size > 5000
    )


def test_several_sweeps_run_one_after_the_other_whatever_becomes_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [write(tmp_path / f"{name}.yaml", points=[{}]) for name in ("ends", "breaks", "goes-on")]
    lost = write(tmp_path / "lost.yaml", points=[{}], set={"backbone.model": "nowhere"})
    ran = []

    def flow(config: str, overrides: dict, home: Path, rebuild: bool) -> tuple[list, list]:
        ran.append(config)
        if Path(config).stem == "breaks":
            raise RuntimeError("no space left")
        return [], [home / Path(config).stem]

    monkeypatch.setattr("flows.sweep.sweep", flow)
    done = CliRunner().invoke(main, ["sweep", configs[0], lost, *configs[1:], "--home", str(tmp_path / "home")])
    assert done.exit_code == 2 and ran == configs
    assert "no model 'nowhere'" in done.output and "breaks.yaml failed: no space left" in done.output
    assert "error: 2 of 4 sweeps failed: " in done.output and str(tmp_path / "home" / "goes-on") in done.output
    ran.clear()
    assert (
        CliRunner().invoke(main, ["sweep", configs[0], configs[2], "--home", str(tmp_path / "home")]).exit_code == 0
        and len(ran) == 2
    )
    assert CliRunner().invoke(main, ["sweep", "--home", str(tmp_path / "home")]).exit_code == 2


def test_a_search_spends_its_budget_once_and_goes_on(tmp_path: Path) -> None:
    space = {"steering.step_size": {"low": 0.05, "high": 0.2, "log": True}, "steering.updates": {"low": 1, "high": 3}}
    home, path = tmp_path / "home", tmp_path / "s.yaml"
    config = write(path, search={"trials": 2, "space": space})
    invoke("sweep", config, "--home", str(home))
    rows = json.loads((home / "sweeps" / "tiny-sweep" / "points.json").read_text())
    assert len(rows) == 2 and all(row["state"] == "finished" for row in rows)
    assert all(
        0.05 <= row["varied"]["steering.step_size"] <= 0.2 and row["varied"]["steering.updates"] in (1, 2, 3)
        for row in rows
    )
    invoke("sweep", config, "--home", str(home))
    assert json.loads((home / "sweeps" / "tiny-sweep" / "points.json").read_text()) == rows


def search_runs(home: Path) -> tuple[list[Any], list[Any]]:
    """The runs of sweeps in MLflow that are parents, and those below one."""
    client = mlflow_client(home)
    found = client.search_runs(
        [client.get_experiment_by_name("learn-to-steer").experiment_id], "tags.`l2s.sweep` != ''"
    )
    return tuple([run for run in found if ("mlflow.parentRunId" in run.data.tags) == below] for below in (False, True))


def pretended(stop_at: int | None = None) -> Callable[..., PointResult]:
    """A point that costs nothing: figures that its settings alone decide.

    The one that is stopped is the `stop_at`th.
    """
    calls = 0

    def attempt(settings, point, home, tracking, run_id, rebuild, before_images) -> PointResult:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        size = point.varied["steering.step_size"]
        try:
            before_images(SimpleNamespace(validation={"accuracy": size}))
        except Pruned:
            return PointResult.of(point, PointState.PRUNED)
        if point.varied["steering.updates"] == 5:
            return PointResult.of(point, PointState.FAILED, reason="five")
        metrics = {"correct": size + 0.01 * point.varied["steering.updates"], "seconds": 1.0}
        return PointResult.of(point, PointState.FINISHED, metrics=metrics)

    return attempt


def test_a_search_that_is_stopped_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once began a new study at every call, and drew other points after a stop.

    14 trials, as the last ones are no longer drawn blindly.
    """
    space = {"steering.step_size": {"low": 0.05, "high": 0.9, "log": True}, "steering.updates": {"low": 1, "high": 6}}
    settings = load_sweep(write(tmp_path / "s.yaml", search={"trials": 14, "space": space}))
    monkeypatch.setattr(searching, "attempt", pretended())
    _, undisturbed = searching.search(settings, tmp_path / "undisturbed", rebuild=False)
    assert len(undisturbed) == 14 and {row.state for row in undisturbed} == set(PointState)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # the store of the first home
    for stop_at in (4, 9):  # counted in each call
        monkeypatch.setattr(searching, "attempt", pretended(stop_at))
        with pytest.raises(KeyboardInterrupt):
            searching.search(settings, tmp_path / "stopped", rebuild=False)
        (parent,), _ = search_runs(tmp_path / "stopped")
        assert parent.info.status == "KILLED"
    monkeypatch.setattr(searching, "attempt", pretended())
    tracking, rows = searching.search(settings, tmp_path / "stopped", rebuild=False)
    assert rows == undisturbed
    (parent,), trials = search_runs(tmp_path / "stopped")
    assert (
        parent.info.run_id == tracking.run_id
        and parent.info.status == "RUNNING"
        and "l2s.error" not in parent.data.tags
    )
    states = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    assert sorted(trial.info.status for trial in trials) == sorted(states[row.state] for row in rows)
    monkeypatch.setattr(searching, "attempt", None)  # nothing is left to run
    assert searching.search(settings, tmp_path / "stopped", rebuild=False)[1] == rows


def test_a_second_search_of_a_name_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    settings = load_sweep(
        write(
            tmp_path / "s.yaml",
            search={"trials": 2, "space": {"steering.step_size": [0.1, 0.2], "steering.updates": [1]}},
        )
    )
    attempt, both = pretended(), []

    def meanwhile(*arguments, **named) -> dict[str, Any]:
        monkeypatch.setattr(searching, "attempt", attempt)
        both.append(threading.Thread(target=searching.search, args=(settings, tmp_path, False)))
        both[0].start()
        both[0].join(3)
        assert both[0].is_alive() and "another search tiny-sweep is using" in capsys.readouterr().err
        return attempt(*arguments, **named)

    monkeypatch.setattr(searching, "attempt", meanwhile)
    searching.search(settings, tmp_path, rebuild=False)
    both[0].join(60)
    parents, trials = search_runs(tmp_path)
    assert len(parents) == 1 and [trial.info.status for trial in trials] == ["FINISHED", "FINISHED"]


def test_a_store_that_goes_away_in_a_search_is_one_clear_line_and_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_sweep(
        write(
            tmp_path / "s.yaml",
            search={"trials": 2, "space": {"steering.step_size": [0.1, 0.2], "steering.updates": [1]}},
        )
    )

    def away(*_: Any) -> None:
        raise MlflowException("connection refused")

    def lonely(*arguments, **named) -> dict[str, Any]:
        row = pretended()(*arguments, **named)
        gone.setattr(mlflow.MlflowClient, "get_run", away)
        return row

    with monkeypatch.context() as gone, pytest.raises(UserError, match="stopped answering.*the same command goes on"):
        gone.setattr(searching, "attempt", lonely)
        searching.search(settings, tmp_path, rebuild=False)
    monkeypatch.setattr(searching, "attempt", pretended())
    assert len(searching.search(settings, tmp_path, rebuild=False)[1]) == 2
    parents, trials = search_runs(tmp_path)
    assert len(parents) == 1 and [trial.info.status for trial in trials] == ["FINISHED", "FINISHED"]


def test_a_point_below_the_median_is_pruned_and_that_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter((0.5, 0.4, 0.6))
    monkeypatch.setattr(
        "flows.points.load_result", lambda _: SimpleNamespace(validation={"accuracy": next(accuracies)})
    )
    monkeypatch.setattr(searching, "STARTUP_TRIALS", 1)
    home, space = tmp_path / "home", {"steering.step_size": {"low": 0.05, "high": 0.2}}
    output = invoke("sweep", write(tmp_path / "s.yaml", search={"trials": 3, "space": space}), "--home", str(home))
    rows = json.loads((home / "sweeps" / "tiny-sweep" / "points.json").read_text())
    assert [row["state"] for row in rows] == [
        "finished",
        "pruned",
        "finished",
    ] and f"{rows[1]['label']}: pruned" in output
    assert sorted(record.state for record in runs.list_runs(home)) == ["finished", "finished", "pruned"]
    logs = [path.read_text() for path in (home / "logs").glob("*.log")]
    assert len(logs) == 3 and sum("pruned" in log for log in logs) == 1 and not any("Traceback" in log for log in logs)
    (parent,), trials = search_runs(home)
    errors = sorted((trial.info.status, trial.data.tags.get("l2s.error")) for trial in trials)
    assert parent.info.status == "FINISHED" and errors == [("FINISHED", None), ("FINISHED", None), ("KILLED", "pruned")]
    assert len(list((home / "stages" / "samples").glob("*"))) == 3  # plain, and two of the three points
