"""The servers of a folder of runs: started once, found again, used by commands, stopped cleanly."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from helpers.servers import free_port, l2s, l2s_here
from helpers.small_run import ROOT, environment

from flows import servers
from flows.environment import _own_servers
from flows.processes import end_processes
from l2s_core.errors import UserError
from tasks.database import SETTING, database_url, hand_over_password

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_up_finds_what_runs_commands_use_it_and_down_ends_it(tmp_path: Path) -> None:
    ports = {"mlflow": free_port(), "prefect": free_port()}
    options = [part for name, port in ports.items() for part in (f"--{name}-port", str(port))]
    try:
        first = l2s("up", *options, home=tmp_path)
        assert first.returncode == 0, first.stdout + first.stderr
        entries = json.loads((tmp_path / "servers.json").read_text())
        assert {entry["name"]: entry["port"] for entry in entries} == ports and all(
            entry["host"] == "127.0.0.1" for entry in entries
        )
        second = l2s("up", home=tmp_path)
        assert second.returncode == 0 and second.stdout.count("runs already") == 2
        assert json.loads((tmp_path / "servers.json").read_text()) == entries
        shown = l2s("ui", "--no-browser", home=tmp_path)
        assert (
            f"mlflow: http://127.0.0.1:{ports['mlflow']}/#/experiments/1/runs?viewStateShareKey=l2s-classifiers"
            "&workflowType=machine_learning" in shown.stdout
        ), shown.stderr
        with urllib.request.urlopen(
            f"http://127.0.0.1:{ports['mlflow']}/api/2.0/mlflow/experiments/get?experiment_id=1"
        ) as answer:
            tags = {tag["key"]: tag["value"] for tag in json.load(answer)["experiment"]["tags"]}
        state = json.loads(json.loads(tags["mlflow.sharedViewState.l2s-classifiers"])["state"])
        assert (
            state["orderByKey"] == "metrics.`bench/steered/correct`" and state["orderByKey"] in state["selectedColumns"]
        )
        code = (
            "from flows.environment import prepare; import sys, os, pathlib; prepare(pathlib.Path(sys.argv[1]))\n"
            "print(os.environ['PREFECT_API_URL'], os.environ['MLFLOW_TRACKING_URI'])"
        )
        seen = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment(), capture_output=True, text=True
        )
        assert seen.stdout.split() == [
            f"http://127.0.0.1:{ports['prefect']}/api",
            f"http://127.0.0.1:{ports['mlflow']}",
        ]
        for port in ports.values():
            listening = {
                c.laddr.ip for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN"
            }
            assert listening == {"127.0.0.1"}
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['prefect']}/api/admin/settings") as answer:
            assert json.load(answer)["server"]["analytics_enabled"] is False
    finally:
        done = l2s("down", home=tmp_path)
    assert done.returncode == 0 and done.stdout.count("stopped") == 2
    assert not any(
        psutil.pid_exists(entry["pid"]) and psutil.Process(entry["pid"]).status() != "zombie" for entry in entries
    )
    assert not (tmp_path / "servers.json").exists()


def test_a_server_is_used_only_while_its_own_process_runs(tmp_path: Path) -> None:
    """Another folder's server, on the port that this one's had, is not taken for it."""
    entry = {"name": "mlflow", "host": "127.0.0.1", "variable": "MLFLOW_TRACKING_URI", "address": "http://there"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for words, used in (("mlflow server", True), ("something else", False)):
            process = subprocess.Popen([sys.executable, "-c", "input()", words], stdin=subprocess.PIPE)
            (tmp_path / "servers.json").write_text(
                json.dumps([{**entry, "pid": process.pid, "port": listener.getsockname()[1]}])
            )
            assert _own_servers(tmp_path) == ({"MLFLOW_TRACKING_URI": "http://there"} if used else {})
            process.kill()
            assert process.wait() and _own_servers(tmp_path) == {}


SLOW = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Slow(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(3)
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Slow).serve_forever()
"""


def test_a_busy_server_is_waited_for_and_none_is_started_beside_it(tmp_path: Path) -> None:
    port = free_port()
    said = []
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(port), "mlflow prefect"], stderr=subprocess.DEVNULL)
    try:
        busy = [
            servers.Server(name=name, pid=process.pid, host=servers.LOCAL, port=port, log="none")
            for name in servers.PORTS
        ]
        (tmp_path / "servers.json").write_text(json.dumps([server.entry() for server in busy]))
        assert servers.start_servers(tmp_path, servers.LOCAL, servers.PORTS, said.append) == busy
    finally:
        process.kill()
        process.wait()
    assert [line.partition(":")[0] for line in said] == ["mlflow runs already", "prefect runs already"]


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = l2s_here("up", "--mlflow-port", port, home=tmp_path)
    assert (
        done.exit_code == 2
        and f"mlflow cannot listen on 127.0.0.1:{port}" in done.stderr
        and "--mlflow-port" in done.stderr
    )


def test_mlflow_answers_other_machines_to_its_own_names_only(tmp_path: Path) -> None:
    """By the machine's host name it refused all but its health check."""
    port = free_port()
    name = socket.gethostname()

    def status(host: str, origin: str | None = None) -> int:
        url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search"
        headers = {"Host": host, "Content-Type": "application/json"} | ({"Origin": origin} if origin else {})
        try:
            with urllib.request.urlopen(urllib.request.Request(url, b'{"max_results": 1}', headers)) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    server = servers._start(tmp_path, "mlflow", "0.0.0.0", port)
    try:
        servers._wait(server)
        assert (
            status(f"{name}:{port}")
            == status(f"127.0.0.1:{port}")
            == status(f"{name}:{port}", f"http://{name}:{port}")
            == 200
        )
        assert status(f"evil.example:{port}") == status(f"{name}:{port}", "http://evil.example") == 403
    finally:
        root = psutil.Process(server.pid)
        end_processes([*root.children(recursive=True), root], patience=20)


def test_a_server_for_this_machine_alone_is_told_no_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_SERVER_ALLOWED_HOSTS", raising=False)
    told = {name for name in servers._environment(servers.LOCAL, 5000) if name.startswith("MLFLOW_SERVER_")}
    assert not told - {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION"}
    named = servers._environment("203.0.113.7", 5000)
    assert "203.0.113.7:5000" in named["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",") and "*" not in named[
        "MLFLOW_SERVER_ALLOWED_HOSTS"
    ].split(",")
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "mine.example")
    assert servers._environment("203.0.113.7", 5000)["MLFLOW_SERVER_ALLOWED_HOSTS"] == "mine.example"


@pytest.mark.parametrize("value", ["sqlite:///x.db", "postgresql://localhost/db", "nonsense"])
def test_a_database_setting_that_is_no_server(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(SETTING, value)
    with pytest.raises(UserError, match="expected postgresql://user:password@host:port"):
        database_url("mlflow")


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://me@db.example:5433?sslmode=require",
        "postgresql://me:my?secret@db.example",
        "postgresql://me:my#secret@db",
    ],
)
def test_options_of_a_database_setting_are_an_error_and_not_lost(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(SETTING, value)
    for name in ("mlflow", "prefect"):
        with pytest.raises(UserError, match="PGSSLMODE=require") as caught:
            database_url(name)
        assert "secret" not in str(caught.value)


def test_the_password_of_a_database_stands_in_no_address_and_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stood on the command line of MLflow's server, where every user's `ps` shows it, and in errors and logs."""
    monkeypatch.setenv("PGPASSWORD", "another")
    monkeypatch.setenv(SETTING, "postgresql://me:sec%40ret@db.example:5433")
    for _ in range(2):  # once more in a process that inherits the environment
        hand_over_password()
        assert database_url("prefect") == "postgresql+asyncpg://me@db.example:5433/l2s_prefect"
        assert os.environ["PGPASSWORD"] == "sec@ret" and os.environ[SETTING] == "postgresql://me@db.example:5433"
    monkeypatch.setenv(SETTING, "postgresql://me:secret@db.example:5433/mine")
    with pytest.raises(UserError) as caught:
        database_url("prefect")
    assert "secret" not in str(caught.value)
    monkeypatch.delenv(SETTING)
    assert database_url("mlflow") is None and "L2S_DATABASE" not in os.environ
