"""One run at a time in a folder of runs, the concurrency limit around GPU tasks, and the name of a flow run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.interrupt import prompt_stop
from l2s_core.config import RunConfig
from l2s_core.errors import UserError, first_line, masked
from l2s_core.storage.lock import exclusive
from tasks.stage_task import GPU, shared_server

BUSY = (408, 429, 502, 503)  # after these codes of HTTP a client of Prefect asks again, and in the end gives up

# One task at a time: a second one would only share the same cores or the same GPU.
RUNNER: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=1)


@contextmanager
def locked(home: Path) -> Iterator[Callable[[str], None]]:
    """Hold the folder of runs for this process; a second run waits. Signals end the process soon while it is held.

    Yields a function that writes into the lock who holds it.
    """
    with (
        prompt_stop(),
        exclusive(home, lambda: click.echo(f"another run is using {home}; waiting for it to end", err=True)) as sign,
    ):
        yield sign


def require_prefect() -> None:
    """Raise UserError where a shared Prefect server is named and does not answer."""
    if not shared_server():
        return
    try:
        with get_client(sync_client=True) as client:
            reason = client.api_healthcheck()
    except Exception as error:  # settings and clients raise many kinds for an odd address
        reason = error
    if reason is not None:
        raise UserError(
            f"cannot reach the Prefect server {masked(os.environ['PREFECT_API_URL'])} ({masked(first_line(reason))}); "
            "start it, or unset PREFECT_API_URL"
        )


def server_fault(error: BaseException) -> str | None:
    """Return the line for an error behind which a Prefect server is that does not answer; None for any other error."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, PrefectHTTPStatusError) and behind.response.status_code in BUSY:
            reason = f"{behind.response.status_code} {behind.response.reason_phrase}"
            server = f"{behind.request.url.scheme}://{behind.request.url.netloc.decode()}"
            return (
                f"the Prefect server {masked(server)} stopped answering ({reason}); it is too busy; what is finished "
                "is kept, and the same command goes on from there"
            )
        behind = behind.__cause__ or behind.__context__
    return None


def limit_gpu_tasks(slots: int = 1) -> None:
    """Create the concurrency limit `gpu` on a shared server where there is none; a server of our own needs none."""
    if not shared_server():
        return
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU)
        except ObjectNotFound:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU, limit=slots))


def name_flow_run(run_id: str, config: RunConfig) -> None:
    """Call the flow run that this is by the run's id, with tags to filter by; outside of one there is nothing to do."""
    call_flow_run(run_id, config.name, Path(config.backbone.model).name, f"suite {config.benchmark.suite}")


def call_flow_run(name: str, *tags: str) -> None:
    """Give the flow run that this is a name and further tags; outside of one there is nothing to do."""
    if flow_run.id is None:
        return
    with get_client(sync_client=True) as client:
        all_tags = list(dict.fromkeys([*flow_run.tags, *tags]))
        client.update_flow_run(UUID(str(flow_run.id)), name=name, tags=all_tags)
