"""Machines as people have them: a proxy in the environment, odd folders, another user's files, a store that refuses."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import mlflow
import prefect
import pytest
from click.testing import CliRunner
from helpers.tracking import mlflow_client
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.cli import main
from flows.environment import pass_proxies_by, prefect_home, require_address
from flows.servers import DIRECT
from flows.workspace import require_prefect, server_fault
from l2s_core.errors import UserError, one_line
from l2s_core.storage.files import write_json
from l2s_core.storage.lock import exclusive
from tasks.tracking.store import answering, open_store, registered_name

ROOT = Path(__file__).parents[2]


class Answers(BaseHTTPRequestHandler):
    """Answers every request with its name, and counts nothing else."""

    name = b"server"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.name)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def served():
    """The addresses of a server and of a proxy on this machine."""
    kinds = (Answers, type("Proxy", (Answers,), {"name": b"proxy"}))
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in kinds]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_address[1]}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


ASK = """
import json, sys, os
from pathlib import Path
from flows.environment import prepare
prepare(Path(sys.argv[1]))
import httpx, requests, urllib.request
url = sys.argv[2]
print(json.dumps([httpx.get(url).text, requests.get(url).text, urllib.request.urlopen(url).read().decode(),
                  httpx.get("http://elsewhere.example/").text]))
"""


@pytest.mark.parametrize("excepted", ["", "intranet.example"])
def test_the_projects_own_addresses_never_go_through_a_proxy(served, tmp_path: Path, excepted: str) -> None:
    """Every request to 127.0.0.1 went to the institute's proxy: a run died after minutes."""
    server, proxy = served
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = {**kept, "http_proxy": proxy, "HTTP_PROXY": proxy, "PYTHONPATH": str(ROOT), "L2S_PREPARED": ""}
    if excepted:
        environment["NO_PROXY"] = excepted
    done = subprocess.run(
        [sys.executable, "-c", ASK, tmp_path, server], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == ["server", "server", "server", "proxy"]


def test_servers_are_asked_for_their_health_directly(served, monkeypatch: pytest.MonkeyPatch) -> None:
    server, proxy = served
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy)
    assert DIRECT.open(server, timeout=20).read() == b"server"


def test_what_a_user_excepts_from_proxies_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "a.example")
    monkeypatch.setenv("NO_PROXY", "b.example, a.example")
    pass_proxies_by("10.0.0.5")
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "a.example,b.example,127.0.0.1,localhost,::1,10.0.0.5"
    monkeypatch.setenv("no_proxy", "*")
    pass_proxies_by()
    assert os.environ["no_proxy"] == "*"


def test_a_prefect_server_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "http://127.0.0.1:9/api"
    monkeypatch.setenv("PREFECT_API_URL", address)
    require_address("PREFECT_API_URL")
    with (
        temporary_settings({PREFECT_API_URL: address}),
        pytest.raises(UserError, match="cannot reach the Prefect server .*start it, or unset PREFECT_API_URL"),
    ):
        require_prefect()


@pytest.fixture
def busy():
    """A function that starts a Prefect server which answers so many requests with 503, as one on sqlite does."""
    servers = []

    def start(answers: float) -> str:
        class Busy(BaseHTTPRequestHandler):
            left = answers

            def do_GET(self) -> None:
                type(self).left -= 1
                self.send_response(503 if self.left >= 0 else 200)
                self.send_header("Retry-After", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Busy))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}/api"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_prefect_server_that_is_busy_for_minutes_is_waited_for(busy) -> None:
    """Prefect's own five tries are over after one minute; beside other runs that was too short."""
    with temporary_settings({PREFECT_API_URL: busy(7)}), get_client(sync_client=True) as client:
        assert client.hello().status_code == 200


def test_a_prefect_server_that_stays_busy_is_one_line(busy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a traceback, whether the flow's own request failed or that of a limit, which hides it in its own error."""

    @click.command()
    @click.option("--limit", is_flag=True)
    def work(limit: bool) -> None:
        if limit:
            with concurrency("gpu", occupy=1):
                pass
        prefect.flow(lambda: None, name="nothing")()

    monkeypatch.setitem(main.commands, "work", work)
    with temporary_settings({PREFECT_API_URL: busy(float("inf")), PREFECT_CLIENT_MAX_RETRIES: 0}):
        for options in ([], ["--limit"]):
            done = CliRunner().invoke(main, ["work", *options])
            assert done.exit_code == 2 and len(done.output.splitlines()) == 1
            assert "stopped answering (503 Service Unavailable)" in done.output
            assert "the same command goes on from there" in done.output


def test_an_error_of_ones_own_is_no_busy_server() -> None:
    assert server_fault(ValueError("503 Service Unavailable")) is None


@pytest.mark.parametrize("address", ["foo", "ftp://127.0.0.1/api", "http://[::1", "http://a:b/api", "127.0.0.1:4200"])
def test_an_address_that_is_none_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With some of them Prefect cannot even be imported."""
    monkeypatch.setenv("PREFECT_API_URL", address)
    with pytest.raises(UserError, match="PREFECT_API_URL is .*; give http://HOST:PORT/api, or unset it"):
        require_address("PREFECT_API_URL")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MlflowException("no ':' in a name", INVALID_PARAMETER_VALUE), "refuses what is logged .no ':' in a name"),
        (MlflowException("connection refused"), "stopped answering .connection refused.*start it again"),
        (MlflowException("locked", TEMPORARILY_UNAVAILABLE), "stopped answering"),
    ],
)
def test_a_store_that_refuses_is_no_outage(error: MlflowException, message: str) -> None:
    """ "Start it again" was the advice for a name that the store does not take, for ever."""
    with pytest.raises(UserError, match=message), answering():
        raise error


def test_a_model_folder_of_any_name_is_registered(tmp_path: Path) -> None:
    client = mlflow_client(tmp_path)
    for model, name in (
        ("models/sd:1.5", "relation-sd-1.5"),
        ("a b?/c d", "relation-c-d"),
        ("mini-sd", "relation-mini-sd"),
    ):
        assert registered_name(model) == name and client.create_registered_model(name).name == name


@pytest.mark.parametrize("name", ["a%41b", "a?b", "a#b"])
def test_a_home_that_mlflow_cannot_write_below_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="MLflow cannot write below .*choose another --home"):
        open_store(tmp_path / name)


def test_a_database_whose_making_is_killed_is_made_again(
    make_database: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow makes its tables in many transactions, and takes a file that has some of them for one that has all."""
    monkeypatch.setattr("tasks.tracking.store._create_sqlite", make_database)
    killed = os.fork()
    if killed == 0:
        monkeypatch.setattr("mlflow.store.db.utils._upgrade_db", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        open_store(tmp_path)
    assert os.waitpid(killed, 0)[1] == signal.SIGKILL and not (tmp_path / "mlflow.db").exists()
    assert open_store(tmp_path).get_experiment_by_name("learn-to-steer")


def test_a_half_made_database_is_one_clear_line(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as half:
        half.execute("CREATE TABLE trace_info (request_id VARCHAR(50))")
    with pytest.raises(UserError, match="mlflow.db is no whole database .*move it away"):
        open_store(tmp_path)


def test_a_new_home_is_no_warning(tmp_path: Path) -> None:
    """Prefect said in two lines that it could not create its folder below one that is not there."""
    code = "import sys; from pathlib import Path; from flows.environment import prepare; prepare(Path(sys.argv[1]))"
    home = tmp_path / "new"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import prefect; print(prefect.settings.PREFECT_HOME.value())", str(home)],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith(("L2S_", "PREFECT_"))},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{home.resolve() / 'prefect'}\n" and done.stderr == ""


@pytest.mark.parametrize("command", ["runs", "clean", "reproduce", "down"])
def test_a_home_that_is_a_file_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "home").write_text("")
    done = CliRunner().invoke(main, [command, "--home", str(tmp_path / "home")])
    assert done.exit_code == 2 and "is a file; choose a writable folder" in done.output
    assert len(done.output.splitlines()) == 1


def test_another_users_home_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a folder that anyone may write to, the first user's lock is not the second one's: a traceback."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".lock"))

    monkeypatch.setattr("flows.housekeeping.clean_home", refused)
    done = CliRunner().invoke(main, ["clean", "--home", str(tmp_path)])
    assert done.exit_code == 2 and ".lock is not this user's to read or write (Permission denied)" in done.output
    assert "chmod -R g+rwXs" in done.output and len(done.output.splitlines()) == 1


MIGRATIONS = Path("store", "db_migrations")  # of MLflow's database


def as_user(number: int, group: int, work: Callable[[], object]) -> object:
    """What `work` returns, or its error, in a process of another user."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def call() -> None:
        os.setgroups([group])
        os.setgid(number)
        os.setuid(number)
        os.umask(0o002)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        try:
            answers.put(work())
        except Exception as error:
            answers.put(repr(error))

    process = context.Process(target=call)
    process.start()
    process.join(60)
    return answers.get()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_a_group_shares_a_home(
    make_database: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's database could be written by the user alone who ran first, and Prefect's folder be entered by no other.

    Nobody else may read a test's own folder, so the home lies outside of it. Perhaps they may not read the environment
    of the tests, either: what MLflow reads there each time lies in a copy.
    """
    group, users = 7000, (7001, 7002)

    def work(home: Path) -> str:
        client = open_store(home)
        with exclusive(home, lambda: None):
            run = client.create_run(client.get_experiment_by_name("learn-to-steer").experiment_id)
            client.log_dict(run.info.run_id, {"a": 1}, "a.json")
            write_json(home / "stages" / "samples" / f"{os.getuid()}.json", {})
        prefect_home(home).mkdir(0o700, exist_ok=True)
        return str(prefect_home(home))

    monkeypatch.setattr("tasks.tracking.store._create_sqlite", make_database)
    work(tmp_path)  # imports what other users may not be allowed to read
    with tempfile.TemporaryDirectory(prefix="l2s-group-") as folder:
        package = Path(folder, "mlflow")
        shutil.copytree(Path(mlflow.__file__).parent / MIGRATIONS, package / MIGRATIONS)
        monkeypatch.setattr("mlflow.store.db.utils._get_package_dir", lambda: str(package))
        Path(folder).chmod(0o755)
        home = Path(folder, "home")
        home.mkdir()
        os.chown(home, 0, group)
        home.chmod(0o2770)

        answers = [as_user(user, group, partial(work, home)) for user in (*users, *users)]
        assert answers == [str(home.resolve() / name) for name in ("prefect", "prefect-7002") * 2]
        assert len(mlflow_client(home).search_runs(["1"])) == 4


def test_a_long_prompt_is_not_repeated_whole() -> None:
    assert len(one_line("x" * 10**6)) < 2100 and one_line("a\n b") == "a b"
