"""The process environment every command and flow starts from: local, quiet, offline.

Imported before Prefect, MLflow and torch, which read these variables when they are imported. Whatever a
user has set wins.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.processes import is_server
from l2s_core.errors import UserError, masked
from tasks.database import database_url, hand_over_password

PREPARED = "L2S_PREPARED"  # holds the process that has done it
SERVERS = "servers.json"  # in the folder of runs: the servers that `l2s up` started for it
LOCAL = ("127.0.0.1", "localhost", "::1")
_SOURCES = Path(__file__).parents[1]
INSTALLED = not (_SOURCES / "pyproject.toml").is_file()  # from a wheel, and not the project's own folder
HOME = Path(os.environ.get("L2S_HOME") or (Path.cwd() if INSTALLED else _SOURCES) / "mlruns")
"""The folder of runs where none is given: the project's own; installed from a wheel, one in the working directory."""


def prepare(home: Path = HOME) -> None:
    """Set the defaults for a folder of runs; the first call of a process counts, which is the command's."""
    if os.environ.get(PREPARED) == str(os.getpid()):
        return
    require_address("PREFECT_API_URL")
    os.environ[PREPARED] = str(os.getpid())
    defaults = {
        "PREFECT_HOME": str(prefect_home(Path(home))),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # commands print their own progress and errors
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # its own errors' tracebacks; a run that ends by one says why
        "PREFECT_LOGGING_EXTRA_LOGGERS": "l2s",  # what stages say stands in the flow run's log
        # A server on sqlite that several runs report to answers 503 while it is busy. Its clients ask again after 2, 4,
        # 8 … seconds: for four minutes, and with Prefect's own 5 tries for one. One that is not there is told at once.
        "PREFECT_CLIENT_MAX_RETRIES": "7",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for what nothing here uses
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        # Threads that wait for each other spin this long before they sleep. libgomp's own 300000 rounds gain nothing
        # here. Beside other work they eat the cores that the waited-for thread needs: three times slower.
        "GOMP_SPINCOUNT": "1000",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    hand_over_password()
    prefect_database = database_url("prefect")
    if prefect_database:
        defaults["PREFECT_API_DATABASE_CONNECTION_URL"] = prefect_database
    servers = _own_servers(Path(home))
    for name, value in {**defaults, **servers}.items():
        os.environ.setdefault(name, value)
    pass_proxies_by(*(host for url in servers.values() if (host := urlsplit(url).hostname)))
    _keep_freed_memory()
    # A command that only reads leaves a folder of runs uncreated, and Prefect's own below it, with two lines about it.
    warnings.filterwarnings("ignore", "Failed to create the Prefect home directory")


def prefect_home(home: Path) -> Path:
    """Return where Prefect keeps its own in a folder of runs.

    It lets nobody but its user in there, so each user of a shared folder has one.
    """
    folder = home.resolve() / "prefect"
    try:
        own = folder.stat().st_uid == os.getuid()
    except OSError:  # none yet
        own = True
    return folder if own else folder.with_name(f"prefect-{os.getuid()}")


def require_address(variable: str) -> None:
    """Raise UserError where a variable names a server by what is no address; Prefect cannot be imported with one."""
    stated = os.environ.get(variable, "")
    try:
        parts = urlsplit(stated)
        good = not stated or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        good = False
    if not good:
        raise UserError(f"{variable} is {masked(stated)!r}; give http://HOST:PORT/api, or unset it")


def pass_proxies_by(*hosts: str) -> None:
    """Let no client in this process, or in one it starts, send what is for this machine, or for `hosts`, to a proxy.

    Prefect's and MLflow's clients follow http_proxy, as most institutes set it, and a proxy does not know this
    machine's own addresses. What a user has excepted stays so.
    """
    stated = ",".join(filter(None, (os.environ.get(name) for name in ("no_proxy", "NO_PROXY"))))
    excepted = list(dict.fromkeys(entry.strip() for entry in stated.split(",") if entry.strip()))
    if "*" in excepted:
        return
    value = ",".join(dict.fromkeys([*excepted, *LOCAL, *hosts]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = value  # libraries differ in which of the two they read


def _own_servers(home: Path) -> dict[str, str]:
    """Return the addresses of the servers that `l2s up` started for this folder, those that still run and listen."""
    try:
        entries = json.loads((home / SERVERS).read_text(encoding="utf-8"))
        running = [
            entry
            for entry in entries
            if is_server(entry["pid"], entry["name"]) and _listens(entry["host"], entry["port"])
        ]
        return {entry["variable"]: entry["address"] for entry in running}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # none, or damaged: `l2s up` says so


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def _keep_freed_memory() -> None:
    """Let glibc keep the memory that tensors free instead of giving every large block back to the system at once.

    A UNet frees and takes the same few hundred MB in each pass; without page faults in between it is faster.
    A user's own MALLOC_ settings win; other C libraries are left alone.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    # The numbers of M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX in malloc.h.
    trim_threshold = -1
    top_pad = -2
    mmap_max = -4
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)


def quiet_libraries() -> None:
    """Silence the loading bars and advice of transformers, diffusers and MLflow; errors still show."""
    import logging

    import diffusers
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    diffusers.logging.set_verbosity_error()
    logging.getLogger("alembic").setLevel(logging.ERROR)
    show = warnings.showwarning

    def show_others(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **named: Any) -> None:
        if "/mlflow/" not in filename.replace("\\", "/"):
            show(message, category, filename, *rest, **named)

    warnings.showwarning = show_others  # MLflow switches its advice back on where filters would hide it
