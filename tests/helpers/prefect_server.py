"""One Prefect server for all processes of a test session, which their runs report to: a run's own costs 10 CPU seconds.

Tests of what a run does with its own server ask for `environment()` without it.
"""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from functools import cache
from pathlib import Path

from filelock import FileLock
from helpers import databases, session

from flows import servers
from tasks.stage_task import GPU


@cache
def shared_server() -> str:
    """The address of the server's interface, which the first call in any process starts."""
    from helpers.servers import free_port

    folder = session.shared_folder()
    with FileLock(folder / "lock"):
        address = folder / "address"
        if not address.exists():
            os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
            ports = {"prefect": free_port()}
            (server,) = servers.start_servers(folder, servers.LOCAL, ports, lambda _: None)
            databases.keep_prefect(Path(os.environ["PREFECT_HOME"]) / databases.PREFECT)
            _admit_all(f"{server.url}/api")
            address.write_text(f"{server.url}/api")
    return address.read_text()


def forget_servers() -> None:
    """Have the next flow of this process report to its own server.

    Prefect's worker that reports task runs keeps the server that it first found, whatever the settings say later.
    """
    from prefect.events.worker import EventsWorker

    EventsWorker.drain_all(at_exit=False)


def _admit_all(api: str) -> None:
    """Limit tasks on the accelerator to more than there ever are: runs of other tests, or killed ones, hold up none."""
    request = urllib.request.Request(
        f"{api}/v2/concurrency_limits/",
        json.dumps({"name": GPU, "limit": 1000}).encode(),
        {"Content-Type": "application/json"},
    )
    with servers.DIRECT.open(request, timeout=60) as answer:
        assert answer.status == 201


def end_session() -> None:
    folder = session.shared_folder()
    servers.stop_servers(folder, lambda _: None)
    shutil.rmtree(folder, ignore_errors=True)
