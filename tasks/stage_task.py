"""What every task here has in common, and the limit around work on the accelerator."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.runtime import task_run

from l2s_core.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")
GPU = "gpu"  # tag of tasks that may use the accelerator, and name of the concurrency limit around their work
LEASE_SECONDS = 60  # after which the slot of a killed process is free again


def _worth_a_retry(_task: Task, _run: TaskRun, state: State) -> bool:
    """A user's mistake stays one, however often it is tried."""
    return not isinstance(state.result(raise_on_failure=False), UserError)


def _run_name() -> str:
    """Name a task run by what it works on: its task, the method or classifier, and its shards."""
    given = task_run.parameters
    fixed = given.get("fixed", {})
    subject = given.get("method") or given.get("name") or fixed.get("method")
    shards = list(given["shards"]) if "fixed" in given else []
    parts = [task_run.task_name, subject]
    if shards:
        parts.append(f"shard {shards[0]}" if len(shards) == 1 else f"shards {shards[0]} to {shards[-1]}")
    return ", ".join(part for part in parts if part)


def stage_task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task of Prefect with what every stage has in common; `options` win.

    Prefect's own cache is off: a stage checks its files itself and so notices when one is gone or damaged.
    """
    common: dict[str, Any] = {
        "task_run_name": _run_name,
        "cache_policy": NO_CACHE,
        "persist_result": False,
        "retries": 2,
        "retry_delay_seconds": 1,
        "retry_condition_fn": _worth_a_retry,
    }
    return task(**(common | options))


def dask_worker() -> Any:
    """Return the Dask worker that this task runs on, or None elsewhere."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def shared_server() -> bool:
    """Whether this run reports to a Prefect server that others may use, too."""
    return bool(os.environ.get("PREFECT_API_URL"))


@contextmanager
def accelerator() -> Iterator[None]:
    """Hold one slot of the limit `gpu` for the length of the block; outside a task run there is nothing to hold.

    Taken around the work itself and not around the task, so that checking a finished output waits for nobody.
    With a server of our own there is nobody to share with: the lock on the folder of runs keeps others out. On a
    Dask worker the resources of the cluster say who has an accelerator.
    """
    if TaskRunContext.get() is None or not shared_server() or dask_worker() is not None:
        yield
        return
    with concurrency(GPU, occupy=1, lease_duration=LEASE_SECONDS):
        yield
