"""One run at a time in a folder of runs, and the concurrency limit around GPU tasks."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectNotFound
from prefect.task_runners import ThreadPoolTaskRunner

from l2s_core.files import make_folder
from tasks.stage_task import GPU, shared_server

# One task at a time: a second one would only share the same cores or the same GPU.
RUNNER = ThreadPoolTaskRunner(max_workers=1)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the folder of runs for this process; a second run waits. The lock ends with the process, however it ends."""
    path = make_folder(home) / ".lock"
    with open(path, "a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            click.echo(f"another run is using {home}; waiting for it to end", err=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def limit_gpu_tasks(slots: int = 1) -> None:
    """Create the concurrency limit `gpu` on a shared server where there is none; a server of our own needs none."""
    if not shared_server():
        return
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU)
        except ObjectNotFound:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU, limit=slots))
