"""Schedules and the regression gate: figures against the last good ones, and an interval that really fires."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.judged import run_summary
from helpers.prefect_server import shared_server
from helpers.runs import run_of
from helpers.servers import l2s_here
from helpers.small_run import ROOT, SETTINGS, inherit, shared_environment
from helpers.tracking import mlflow_client

from flows.scheduled import Regression, _hold
from l2s_core.config import ToleranceConfig
from l2s_core.errors import UserError
from l2s_core.evaluation.run_summary import RunSummary
from l2s_core.experiments.regression import (
    Gate,
    Measured,
    accept,
    compare,
    figures_of,
    gate_file,
    load_gate,
    save_gate,
)
from tasks.tracking.deployment_run import log_night

pytestmark = [pytest.mark.server, pytest.mark.slow]

WIDE = ToleranceConfig(correct=1, all_found=1, accuracy=1)


def summary(correct: float, accuracy: float = 0.8) -> RunSummary:
    return run_summary(correct=correct, all_found=0.9, accuracy=accuracy)


def measured(correct: float, accuracy: float = 0.8, **settings: Any) -> Measured:
    figures = figures_of(summary(correct, accuracy))
    return Measured(run_id="tiny-1", settings={"steering": {"updates": 2}, **settings}, figures=figures)


def test_figures_outside_the_tolerance_are_named_up_and_down(tmp_path: Path) -> None:
    assert load_gate(tmp_path, "nightly") is None
    save_gate(tmp_path, "nightly", Gate(accepted=measured(0.5), latest=measured(0.7)))
    last = load_gate(tmp_path, "nightly").accepted.figures
    tolerance = ToleranceConfig(correct=0.05, all_found=0.0, accuracy=0.02)

    def outside(correct: float, accuracy: float = 0.8) -> set[str]:
        return {row.figure for row in compare(measured(correct, accuracy).figures, last, tolerance) if not row.ok}

    assert outside(0.5) == outside(0.55) == outside(0.45) == set()
    assert outside(0.551) == outside(0.44) == {"correct, plain", "correct, main"}
    assert outside(0.5, 0.83) == {"accuracy, main"}


def test_the_gate_of_a_deployment_forgets_nothing_until_it_is_told(tmp_path: Path) -> None:
    """Another setting made a new "first run", which passed whatever its figures were."""
    other = measured(0.2, steering={"updates": 3}, shard=8)
    save_gate(tmp_path, "a/b", Gate(accepted=measured(0.5), latest=other))
    assert load_gate(tmp_path, "a/b").accepted.differences(other) == [
        "shard not there -> 8",
        "steering.updates 2 -> 3",
    ]
    with pytest.raises(UserError, match=r"unknown deployment .*'a-b'; did you mean 'a/b'\? allowed: a/b"):
        accept(tmp_path, "a-b")
    accept(tmp_path, "a/b")
    assert load_gate(tmp_path, "a/b") == Gate(accepted=other, latest=other)
    text = gate_file(tmp_path, "a/b").read_text()
    gate_file(tmp_path, "a/b").write_text(text.replace("0.2", "0.9", 1))
    with pytest.raises(UserError, match="is damaged"):
        load_gate(tmp_path, "a/b")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (measured(0.5), None),
        (measured(0.3), r"correct, plain was 0.500, is 0.300.*'l2s accept nightly' accepts these"),
        (measured(0.5, steering={"updates": 3}), r"settings differ .*: steering.updates 2 -> 3.*'l2s accept nightly'"),
    ],
)
def test_a_night_passes_with_the_accepted_settings_and_figures_alone(now: Measured, said: str | None) -> None:
    rows = compare(now.figures, measured(0.5).figures, ToleranceConfig())
    with pytest.raises(Regression, match=said) if said else nullcontext():
        _hold("nightly", rows, measured(0.5).differences(now))


def test_the_nights_of_a_deployment_are_one_history(tmp_path: Path) -> None:
    for correct in (0.5, 0.3):
        log_night(run_of(tmp_path), "nightly", compare(figures_of(summary(correct)), figures_of(summary(0.5)), WIDE))
    client = mlflow_client(tmp_path)
    (history,) = client.search_runs([client.get_experiment_by_name("learn-to-steer").experiment_id])
    nights = client.get_metric_history(history.info.run_id, "correct/main")
    assert [(night.step, night.value) for night in nights] == [(1, 0.5), (2, 0.3)]


def call(url: str, method: str, path: str, body: dict | None = None) -> list | dict:
    request = urllib.request.Request(
        url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


@pytest.fixture
def served(undisturbed: Path, tmp_path: Path):
    """A home with a deployment served every few seconds, and with the maps of the small run.

    Yields it, Prefect's address and the serving process.
    """
    inherit(undisturbed, tmp_path, "catalogue", "scenes", "noise", "maps")
    overrides = {**SETTINGS, "classifiers": {}}
    code = (
        "import sys, json; from pathlib import Path\n"
        "from flows.environment import prepare; prepare(Path(sys.argv[1]))\n"
        "from flows import serving; entry = json.loads(sys.argv[2])\n"
        "serving.serve(serving.deployment_of(entry, Path(sys.argv[1]), 5), limit=1, print_starting_message=False)"
    )
    entry = {
        "name": "tiny",
        "entrypoint": "flows/scheduled.py:scheduled",
        "parameters": {"config": "mini-sd", "overrides": overrides},
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), json.dumps(entry)],
        cwd=ROOT,
        env=shared_environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield tmp_path, shared_server(), process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_an_interval_fires_lands_in_mlflow_and_a_regression_fails_visibly(served) -> None:
    home, api, process = served

    def runs_in(states: tuple[str, ...]) -> list[dict]:
        wanted = {
            "sort": "START_TIME_ASC",
            "flow_runs": {"state": {"type": {"any_": list(states)}}},
            "deployments": {"name": {"any_": ["tiny"]}},
        }
        return call(api, "POST", "/flow_runs/filter", wanted)

    def wait_for(count: int, states: tuple[str, ...]) -> list[dict]:
        deadline = time.monotonic() + 300
        while len(found := runs_in(states)) < count:
            assert process.poll() is None and time.monotonic() < deadline, (
                process.poll(),
                runs_in(("FAILED", "CRASHED")),
            )
            time.sleep(1)
        return found

    (first, *_) = wait_for(1, ("COMPLETED",))
    assert first["auto_scheduled"] is True
    gate = load_gate(home, "tiny")
    assert first["name"].startswith("scheduled-tiny-") and {"tiny", "mini-sd", "suite test"} <= set(first["tags"])
    tasks = call(api, "POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [first["id"]]}}})
    named = {task["name"] for task in tasks}
    assert {"invert scenes, shard 00000", "sample images, plain, shard 00000", "train classifier, main"} <= named
    said = call(api, "POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [first["id"]]}}})
    assert any(line["name"] == "l2s" and line["message"].startswith("built") for line in said)
    client = mlflow_client(home)
    experiment = client.get_experiment_by_name("learn-to-steer").experiment_id
    assert client.search_runs([experiment], "attributes.status = 'FINISHED' and tags.`l2s.run` = 'tiny'")
    lower = {name: value - 0.3 for name, value in gate.accepted.figures.correct.items()}
    figures = replace(gate.accepted.figures, correct=lower)
    save_gate(home, "tiny", replace(gate, accepted=replace(gate.accepted, figures=figures)))
    failed = wait_for(1, ("FAILED",))
    assert (
        "correct, plain was" in failed[0]["state"]["message"]
        and "allowed is a difference of 0.050" in failed[0]["state"]["message"]
    )
    tables = call(
        api, "POST", "/artifacts/filter", {"artifacts": {"key": {"any_": ["regression"]}}, "sort": "CREATED_DESC"}
    )
    newest = tables[0]["data"]
    rows = newest if isinstance(newest, list) else json.loads(newest)
    assert {"figure", "accepted", "now", "allowed", "inside"} <= set(rows[0]) and "NO" in {
        row["inside"] for row in rows
    }


def test_the_shipped_deployments_name_flows_and_parameters_that_exist() -> None:
    from flows import serving

    entries = yaml.safe_load(serving.FILE.read_text())["deployments"]
    assert {"reproduce-mini", "reproduce-real", "sweep"} == {entry["name"] for entry in entries}
    for entry in entries:
        deployment = serving.deployment_of(entry, Path("mlruns"), None)
        schema = deployment._parameter_openapi_schema.properties
        assert set(entry["parameters"]) <= set(schema) and all(field["description"] for field in schema.values())
    schedules = {entry["name"]: entry.get("schedules") for entry in entries}
    assert schedules["reproduce-mini"] and schedules["reproduce-real"] and not schedules["sweep"]


def test_serve_without_a_server_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    done = l2s_here("serve", home=tmp_path)
    assert done.exit_code == 2 and "no Prefect server" in done.stderr and "l2s up" in done.stderr
