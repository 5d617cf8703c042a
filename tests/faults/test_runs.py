"""The folder of runs: records and states, one writer at a time, what may go, signals that end a run soon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import prefect
import pytest
from click.testing import CliRunner
from helpers.runs import run_of
from helpers.small_run import ROOT, environment, start
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from flows import interrupt
from flows.cli import main
from flows.housekeeping import differences_of_namesakes
from flows.interrupt import prompt_stop
from l2s_core.errors import UserError
from l2s_core.storage import runs
from l2s_core.storage.lock import exclusive, holder
from l2s_core.storage.records import read_record, write_record
from l2s_core.storage.run_paths import RunPaths


def paths_of(home: Path, **overrides: Any) -> RunPaths:
    return run_of(home, **overrides).paths


def fill(home: Path, record: runs.RunRecord, size: int = 1000) -> None:
    for output in record.outputs:
        (home / output).mkdir(parents=True, exist_ok=True)
        (home / output / "x.safetensors").write_bytes(b"0" * size)


def owners(home: Path) -> list[str]:
    """The runs that take the report with them."""
    records = runs.list_runs(home)
    return [record.run_id for record in records if home / "reports" / "mini-sd" in runs.files_of(home, record, records)]


def set_start(home: Path, record: runs.RunRecord, started: str) -> None:
    path = home / "runs" / f"{record.run_id}.json"
    write_record(path, read_record(path).changed(started=started))


def test_the_lock_says_who_holds_it_and_ends_with_its_process(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    code = (
        "import sys, time; from pathlib import Path; from l2s_core.storage.lock import exclusive\n"
        "with exclusive(Path(sys.argv[1]), print) as sign: sign('me'); print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n" and holder(tmp_path) == "me"
    with pytest.raises(UserError, match="a run is using"):
        from flows.housekeeping import clean_home

        clean_home(tmp_path, (), delete=True)
    other.kill()
    other.wait()
    assert holder(tmp_path) is None
    with exclusive(tmp_path, lambda: pytest.fail("nobody holds it")):
        assert holder(tmp_path) == ""


def test_a_record_left_running_by_a_dead_process_is_killed_whatever_the_clock_says(tmp_path: Path) -> None:
    first = paths_of(tmp_path)
    second = paths_of(tmp_path, data__train=5)
    with exclusive(tmp_path, print) as sign:
        record = runs.begin(first, "reproduce")
        sign(record.run_id)
        assert [r.state for r in runs.list_runs(tmp_path)] == ["running"]
        set_start(tmp_path, record, "2099-01-01T00:00:00+00:00")  # the clock was set back
        later = runs.begin(second, "train")
        sign(later.run_id)
        assert {r.run_id: r.state for r in runs.list_runs(tmp_path)} == {
            record.run_id: "killed",
            later.run_id: "running",
        }
        runs.end(tmp_path, later, runs.FINISHED, {"main correct": 0.9})
    assert {r.state for r in runs.list_runs(tmp_path)} == {"killed", "finished"}
    again = runs.begin(second, "train")
    assert again.run_id == later.run_id and again.headline == {"main correct": 0.9}


def test_clean_deletes_what_no_run_stands_on_and_nothing_else(tmp_path: Path) -> None:
    first = runs.begin(paths_of(tmp_path), "reproduce")
    second = runs.begin(paths_of(tmp_path, classifier__epochs=3), "reproduce")
    for record in (first, second):
        fill(tmp_path, record)
        runs.end(tmp_path, record, runs.FINISHED)
    shared = set(first.outputs) & set(second.outputs)
    assert {output.split("/")[1] for output in shared} == {
        "catalogue",
        "scenes",
        "noise",
        "maps",
        "trajectories",
        "samples",
        "verdicts",
    }
    loose = tmp_path / "stages" / "maps" / "0123456789abcdef"
    loose.mkdir(parents=True)
    half = tmp_path / first.outputs[1] / ".00001.safetensors.abc.tmp.safetensors"
    half.write_bytes(b"half")
    done = CliRunner().invoke(main, ["clean", "--home", str(tmp_path)])
    assert (
        done.exit_code == 0
        and str(loose) in done.output
        and half.name in done.output
        and "--yes deletes" in done.output
    )
    assert loose.exists() and half.exists()
    assert CliRunner().invoke(main, ["clean", "--yes", "--home", str(tmp_path)]).exit_code == 0
    assert not loose.exists() and not half.exists()
    assert all(
        (tmp_path / output / "x.safetensors").exists() for record in (first, second) for output in record.outputs
    )
    seen = CliRunner().invoke(main, ["runs", "--home", str(tmp_path)])
    assert seen.exit_code == 0 and all(record.run_id in seen.output for record in (first, second))
    assert all(len(line) <= 120 for line in seen.output.splitlines())
    differ = differences_of_namesakes([first, second])
    assert differ[second.run_id] == "classifier.epochs=3" and differ[first.run_id].startswith("classifier.epochs=")
    assert differences_of_namesakes([first]) == {first.run_id: ""}
    one = CliRunner().invoke(main, ["runs", first.run_id, "--home", str(tmp_path)])
    assert one.exit_code == 0 and all(output in one.output for output in first.outputs)
    assert second.run_id not in one.output
    told = CliRunner().invoke(main, ["runs", "--json", "--state", "finished", "--home", str(tmp_path)])
    assert first.run_id in [record["run_id"] for record in json.loads(told.output)]
    none = CliRunner().invoke(main, ["runs", "--json", "--config", "other", "--home", str(tmp_path)])
    assert json.loads(none.output) == []
    assert CliRunner().invoke(main, ["clean", second.run_id, "--yes", "--home", str(tmp_path)]).exit_code == 0
    assert all((tmp_path / output).exists() for output in first.outputs)
    assert not any((tmp_path / output).exists() for output in set(second.outputs) - shared)
    assert [record.run_id for record in runs.list_runs(tmp_path)] == [first.run_id]
    bad = CliRunner().invoke(main, ["clean", "mini-ds", "--home", str(tmp_path)])
    assert bad.exit_code == 2 and "no run 'mini-ds'; did you mean 'mini-sd'" in bad.output


def test_listing_runs_imports_nothing_heavy(tmp_path: Path) -> None:
    """It took 11 s of CPU, for torch."""
    code = (
        "import sys; from click.testing import CliRunner; from flows.cli import main; "
        f"done = CliRunner().invoke(main, ['runs', '--home', {str(tmp_path)!r}]); "
        "sys.exit(done.exit_code or any(name in sys.modules for name in ('torch', 'mlflow', 'prefect', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_classifier_that_a_benchmark_uses_outlives_the_run_that_trained_it(tmp_path: Path) -> None:
    trained = runs.begin(paths_of(tmp_path), "train")
    fill(tmp_path, trained)
    classifier = paths_of(tmp_path).classifier("main")
    given = paths_of(tmp_path, given=classifier / ".." / classifier.name)
    measured = runs.begin(given, "benchmark")
    fill(tmp_path, measured)
    assert CliRunner().invoke(main, ["clean", trained.run_id, "--yes", "--home", str(tmp_path)]).exit_code == 0
    assert (classifier / "x.safetensors").exists()


def test_a_run_with_a_given_classifier_trains_none(tmp_path: Path) -> None:
    paths = paths_of(tmp_path)
    assert paths.config.classifiers and not paths_of(tmp_path, given=tmp_path).config.classifiers
    with pytest.raises(ValueError, match="trains none, and not dual-bare"):
        replace(paths, given=tmp_path)


def test_nights_leave_the_users_own_run_and_the_last_good_night(tmp_path: Path) -> None:
    """A good night deletes the outputs of nights before it alone.

    After a bad one `clean` takes none of the last good one's.
    """

    def night(cache_salt: str, state: str) -> runs.RunRecord:
        record = runs.begin(paths_of(tmp_path, cache_salt=cache_salt), "scheduled")
        fill(tmp_path, record)
        return runs.end(tmp_path, record, state)

    def there(record: runs.RunRecord) -> set[bool]:
        return {(tmp_path / output).exists() for output in record.outputs}

    own = runs.begin(paths_of(tmp_path), "reproduce")
    fill(tmp_path, own)
    runs.end(tmp_path, own, runs.FINISHED)
    first = night("1", runs.FINISHED)
    assert first.run_id != own.run_id and {record.run_id for record in runs.list_runs(tmp_path)} == {
        own.run_id,
        first.run_id,
    }
    failed = night("2", runs.FAILED)
    killed = night("3", runs.KILLED)
    assert CliRunner().invoke(main, ["clean", "--yes", "--home", str(tmp_path)]).exit_code == 0
    assert there(own) == there(first) == there(killed) == {True} and there(failed) == {False}
    last = night("4", runs.FINISHED)
    assert there(own) == there(last) == {True} and there(first) == there(killed) == {False}
    assert runs.list_runs(tmp_path)[0].stale == () and not runs.unreferenced(tmp_path, runs.list_runs(tmp_path))


def test_a_report_belongs_to_the_last_run_that_wrote_it(tmp_path: Path) -> None:
    """A run that trains only, or that failed, names no report: forgetting it leaves those of others."""
    paths = paths_of(tmp_path)
    other = paths_of(tmp_path, classifier__epochs=3)
    report = paths.report / "summary.json"
    report.parent.mkdir(parents=True)
    report.write_text("{}")
    first = runs.end(tmp_path, runs.reported(tmp_path, runs.begin(paths, "reproduce"), paths.report), runs.FINISHED)
    for flow, state in (
        ("train", runs.FINISHED),
        ("sweep", runs.FINISHED),
        ("reproduce", runs.FAILED),
        ("reproduce", runs.KILLED),
    ):
        runs.end(tmp_path, runs.begin(other, flow), state)
        set_start(tmp_path, first, "2020-01-01T00:00:00+00:00")
        assert owners(tmp_path) == [first.run_id], (flow, state)
        assert (
            CliRunner().invoke(main, ["clean", runs.run_id_of(other), "--yes", "--home", str(tmp_path)]).exit_code == 0
        )
        assert report.exists()
    first = runs.end(tmp_path, runs.begin(paths, "train"), runs.FINISHED)
    assert owners(tmp_path) == [first.run_id]  # what it wrote the last time
    set_start(tmp_path, first, "2020-01-01T00:00:00+00:00")
    second = runs.end(tmp_path, runs.reported(tmp_path, runs.begin(other, "reproduce"), other.report), runs.FAILED)
    assert owners(tmp_path) == [second.run_id]
    set_start(tmp_path, second, "2020-01-02T00:00:00+00:00")
    runs.end(tmp_path, runs.begin(paths, "train"), runs.FINISHED)
    assert owners(tmp_path) == [second.run_id]  # written anew since


OLD = {
    "run_id": "mini-sd-0123abcd",
    "name": "mini-sd",
    "flow": "reproduce",
    "state": "finished",
    "started": "2026-01-01T00:00:00+00:00",
    "outputs": ["stages/maps/0123456789abcdef", "stages/verdicts/0123456789abcdef"],
    "config": {"name": "mini-sd", "variants": {}, "backbone": {"model": "mini-sd"}},
    "wrote": "reports/mini-sd",
    "verdicts": {"plain": "stages/verdicts/0123456789abcdef"},
    "stale": [],
    "good": [],
    "ended": "2026-01-01T01:00:00+00:00",
    "headline": {"main both": 0.9},
}
"""A record as the version before records had a format wrote it."""


def left_by_an_earlier_version(home: Path, record: dict[str, Any] = OLD) -> list[Path]:
    """Write a record, what it names and a log; return all of it."""
    left = [home / "runs" / "mini-sd-0123abcd.json", home / "logs" / "mini-sd-0123abcd-20260101T000000.log"]
    left += [home / output / "x.safetensors" for output in OLD["outputs"]] + [home / OLD["wrote"] / "report.html"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0" * 1_000_000)
    left[0].write_text(json.dumps(record))
    return left


def invoke(home: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, [*arguments, "--home", str(home)])
    return done.exit_code, done.output


@pytest.mark.parametrize("names", [(), ("mini-sd-0123abcd",), ("mini-sd",)])
def test_what_an_earlier_version_made_is_named_and_deleted_and_not_read(tmp_path: Path, names: tuple[str, ...]) -> None:
    left = left_by_an_earlier_version(tmp_path)
    own = runs.end(tmp_path, runs.begin(paths_of(tmp_path, name="own"), "reproduce"), runs.FINISHED)
    fill(tmp_path, own)
    assert [record.run_id for record in runs.list_runs(tmp_path)] == [own.run_id]
    code, output = invoke(tmp_path, "runs")
    (line,) = [line for line in output.splitlines() if "mini-sd-0123abcd" in line]
    assert code == 0 and "made by an earlier version" in line and "2 MB" in line and "4 MB belong to no run" in output
    code, output = invoke(tmp_path, "compare", "mini-sd", "own")
    assert code == 2 and "run 'mini-sd' was made by an earlier version; run it again" in output
    assert invoke(tmp_path, "clean", *names)[0] == 0 and all(path.exists() for path in left)
    assert invoke(tmp_path, "clean", *names, "--yes")[0] == 0 and not any(path.exists() for path in left)
    assert all((tmp_path / output / "x.safetensors").exists() for output in own.outputs)
    assert not runs.list_earlier(tmp_path)


def test_a_report_that_this_version_wrote_anew_outlives_the_earlier_record(tmp_path: Path) -> None:
    left = left_by_an_earlier_version(tmp_path)
    paths = paths_of(tmp_path)
    runs.end(tmp_path, runs.reported(tmp_path, runs.begin(paths, "reproduce"), paths.report), runs.FINISHED)
    assert invoke(tmp_path, "clean", "--yes")[0] == 0
    assert [path.exists() for path in left] == [False, False, False, False, True]


@pytest.mark.parametrize(
    "record",
    [
        {"report": "reports/mini-sd"},
        {**OLD, "outputs": ["../../etc", "/etc", "", 3], "wrote": "mlflow.db"},
        {**OLD, "outputs": None, "wrote": 7, "name": None},
        {**OLD, "format": 1},
        {**OLD, "format": 2, "state": None},
        {**OLD, "outputs": ["stages/maps/x\0y", "stages/" + "x" * 5000, "stages/maps/0123456789abcdef"]},
        {**OLD, "format": "2"},
        ["no", "record"],
    ],
)
def test_no_record_ends_in_a_traceback_or_reaches_outside(tmp_path: Path, record: Any) -> None:
    (tmp_path / "mlflow.db").write_text("figures")
    left_by_an_earlier_version(tmp_path, record)
    for arguments in (("runs",), ("clean",), ("clean", "mini-sd-0123abcd"), ("clean", "--yes")):
        code, output = invoke(tmp_path, *arguments)
        assert code == 0 and "/etc" not in output and "mlflow.db" not in output
    assert not list((tmp_path / "runs").glob("*.json")) and not list((tmp_path / "stages").glob("*/*"))
    assert (tmp_path / "mlflow.db").exists()


def test_a_record_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    left = left_by_an_earlier_version(tmp_path, {**OLD, "format": 4})
    for arguments in (("runs",), ("clean", "--yes")):
        code, output = invoke(tmp_path, *arguments)
        assert code == 2 and "written by a later version (records of format 4; this one reads 3)" in output
    assert all(path.exists() for path in left)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_within_seconds_and_the_same_command_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    """One big shard, so that the flow is in the middle of a task that lasts longer than the grace."""
    big = ("--set", "shard=1000", "--set", "data.train=20", "--set", "inversion.iterations=50")
    process = start(tmp_path, *big, alone=True)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("stages/scenes/*/*.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be stopped"
        time.sleep(0.1)
    time.sleep(1)
    asked = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert time.monotonic() - asked < 12  # a bound on hanging, not a measurement
    assert process.returncode in (128 + number, -number, 128 + signal.SIGTERM, -signal.SIGTERM), output
    assert "the same command goes on from there" in output and "Traceback" not in output
    (record,) = runs.list_runs(tmp_path)
    assert record.state == "stopped" and not list(tmp_path.glob("stages/noise/*/[0-9]*"))
    log = next((tmp_path / "logs").glob(f"{record.run_id}-*.log")).read_text()
    assert "begins" in log and "stopped by" in log
    assert json.loads((tmp_path / "runs" / f"{record.run_id}.json").read_text())["config"]["shard"] == 1000


@pytest.mark.server
@pytest.mark.slow
def test_a_process_that_does_not_unwind_is_ended_after_the_grace_with_its_last_words(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from typing import Any
from flows.interrupt import last_words, prompt_stop
with prompt_stop(), last_words(lambda: Path(sys.argv[1]).write_text("said")):
    while True:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "words")],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130 and (tmp_path / "words").read_text() == "said"


@pytest.mark.server
@pytest.mark.slow
def test_a_run_that_is_stopped_does_not_run_for_ever_on_a_shared_server(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that lasts longer than the grace: the process ends without unwinding, and nobody told the server."""
    monkeypatch.setattr(interrupt, "shared_server", lambda: True)
    monkeypatch.setattr(interrupt, "GRACE_SECONDS", 3600.0)  # or this process would be ended
    states = []

    @prefect.flow
    def stopped() -> None:
        with get_client(sync_client=True) as client, prompt_stop():
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(30)
            interrupt._speak()  # as at the end of the grace
            states.append(client.read_flow_run(UUID(flow_run.id)).state)

    with suppress(BaseException):  # the cancelled run's own
        stopped()
    assert [(state.is_cancelled(), state.message) for state in states] == [(True, "stopped by SIGINT")]


def test_a_terminal_that_is_gone_stops_a_run_and_one_that_nohup_started_goes_on() -> None:
    code = """
import os, signal, sys
from flows.interrupt import prompt_stop
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
with prompt_stop():
    os.kill(os.getpid(), signal.SIGHUP)
print("went on")
"""
    done = [
        subprocess.run([sys.executable, "-c", code, how], cwd=ROOT, env=environment(), capture_output=True, text=True)
        for how in ("nohup", "plain")
    ]
    assert done[0].returncode == 0 and done[0].stdout == "went on\n"
    assert (
        done[1].returncode == 128 + signal.SIGHUP
        and not done[1].stdout
        and "the same command goes on" in done[1].stderr
    )
