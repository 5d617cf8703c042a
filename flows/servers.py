"""The MLflow and Prefect servers of a folder of runs: started once, found again, stopped cleanly."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from flows.environment import SERVERS
from flows.processes import end_processes, is_server, lives
from l2s_core.errors import UserError
from l2s_core.storage.files import make_folder, read_json, write_json
from l2s_core.storage.lock import exclusive

LOCAL = "127.0.0.1"
EVERY = "0.0.0.0"
START_SECONDS = 180
STOP_SECONDS = 20
ANSWER_SECONDS = 20
PORTS = {"mlflow": 5000, "prefect": 4200}
HEALTH = {"mlflow": "/health", "prefect": "/api/health"}
PRIVATE = (
    "10.*",
    "192.168.*",
    *(f"172.{part}.*" for part in range(16, 32)),
)  # which MLflow answers to if it is told nothing
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows this machine's addresses
VARIABLES = {"mlflow": "MLFLOW_TRACKING_URI", "prefect": "PREFECT_API_URL"}  # what tells its clients where it is


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs, or ran: its process, where it listens, and its log."""

    name: str
    pid: int
    host: str
    port: int
    log: str

    @property
    def url(self) -> str:
        """Its address for clients on this machine."""
        return f"http://{LOCAL if self.host == EVERY else self.host}:{self.port}"

    def entry(self) -> dict[str, Any]:
        """Return what the file of servers holds of it, with what its clients need."""
        address = self.url + ("/api" if self.name == "prefect" else "")
        return {**asdict(self), "variable": VARIABLES[self.name], "address": address}

    def healthy(self) -> bool:
        """Whether it answers and is the process that was started."""
        if not is_server(self.pid, self.name):
            return False
        try:
            with DIRECT.open(self.url + HEALTH[self.name], timeout=ANSWER_SECONDS) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


def start_servers(home: Path, host: str, ports: dict[str, int], say: Callable[[str], None]) -> list[Server]:
    """Start the servers of `ports` that do not run yet; return them all. Raises UserError when one stays down."""
    with exclusive(home, lambda: say("another start is under way; waiting for it"), name=".servers.lock"):
        servers = {server.name: server for server in _recorded(home) if is_server(server.pid, server.name)}
        found = frozenset(servers)
        for name in ports:
            if name not in found:
                servers[name] = _start(home, name, host, ports[name])
                write_json(home / SERVERS, [server.entry() for server in servers.values()])
                say(f"{name} starts; its log is {servers[name].log}")
        for name in ports:
            _wait(servers[name])  # one that was found may be busy, and answers late
            say(f"{name} {'runs already' if name in found else 'is up'}: {servers[name].url}")
    return [servers[name] for name in ports]


def stop_servers(home: Path, say: Callable[[str], None]) -> None:
    """End the servers of this folder and what they started."""
    for server in _recorded(home):
        if not is_server(server.pid, server.name):
            say(f"{server.name} was not running")
            continue
        root = psutil.Process(server.pid)
        end_processes([*root.children(recursive=True), root], patience=STOP_SECONDS)
        say(f"{server.name} stopped")
    (home / SERVERS).unlink(missing_ok=True)


def start_page(home: Path, server: Server) -> str:
    """Return the page to begin with: Prefect's own, and in MLflow the classifiers with their headline columns."""
    if server.name != "mlflow":
        return server.url
    from tasks.tracking.store import experiment_id, open_store
    from tasks.tracking.views import CLASSIFIERS, save_views, view_url

    client = open_store(home)
    save_views(client, experiment_id(client))  # a store that an older version created has none
    return view_url(server.url, experiment_id(client), CLASSIFIERS)


def _start(home: Path, name: str, host: str, port: int) -> Server:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"{name} cannot listen on {host}:{port} ({error.strerror}); give another --{name}-port"
            ) from None
    log = make_folder(home / "logs") / f"{name}-server.log"
    with open(log, "ab") as output:
        process = subprocess.Popen(
            _command(home, name, host, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=_environment(host, port) | _backend(home, name),
        )
    return Server(name=name, pid=process.pid, host=host, port=port, log=str(log))


def _command(home: Path, name: str, host: str, port: int) -> list[str]:
    where = ["--host", host, "--port", str(port)]
    if name == "prefect":
        return [sys.executable, "-m", "prefect", "server", "start", *where]
    from tasks.tracking.store import open_store

    open_store(home)  # creates the database once, before several processes of the server would
    return [sys.executable, "-m", "mlflow", "server", "--workers", "1", *where]


def _backend(home: Path, name: str) -> dict[str, str]:
    """Return what tells the MLflow server where its database is; a command line could be read by every user."""
    if name != "mlflow":
        return {}
    from tasks.tracking.store import own_store_uri

    return {"MLFLOW_BACKEND_STORE_URI": own_store_uri(home)}


def _environment(host: str, port: int) -> dict[str, str]:
    """This process's environment, whose settings win; a server speaks to its own database, not to another server.

    MLflow answers to no host name and to no public address unless it is told them. So one that other machines are to
    reach is told those of this machine, and that its own pages come from there.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")}
    if host == LOCAL:
        return inherited
    names = [f"{name}:{port}" for name in _names(host)]
    origins = [f"http://{name}" for name in names]
    reachable = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join([*names, "localhost:*", "127.0.0.1:*", *PRIVATE]),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
    }
    return reachable | inherited | ({"PREFECT_UI_API_URL": "/api"} if host == EVERY else {})


def _names(host: str) -> list[str]:
    """Return the names by which other machines may call a server that listens on `host`.

    These are that address, or every address of this machine, and the machine's host names.
    """
    own = {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET
    }
    names = {*(own if host == EVERY else {host}), socket.gethostname(), socket.getfqdn()}
    return sorted(names | {name.lower() for name in names})


def _wait(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.healthy():
            return
        if not lives(server.pid):  # its command line may still be empty: it was started a moment ago
            break
        time.sleep(0.5)
    way_out = "; 'l2s down' ends it" if lives(server.pid) else ""
    tail = " | ".join(Path(server.log).read_text(errors="replace").splitlines()[-3:])
    raise UserError(
        f"the {server.name} server did not come up on {server.url} "
        f"({tail[-300:] or 'it said nothing'}); its log is {server.log}{way_out}"
    )


def _recorded(home: Path) -> list[Server]:
    if not (home / SERVERS).is_file():
        return []
    try:
        return [
            Server(**{field.name: entry[field.name] for field in fields(Server)}) for entry in read_json(home / SERVERS)
        ]
    except (TypeError, KeyError) as error:
        raise UserError(f"{home / SERVERS} is no list of servers ({error}); delete it and stop them by hand") from None
