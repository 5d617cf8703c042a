"""A stage over its shards, in groups.

The groups are few, so that Prefect's task runs cost little, and enough for workers to share evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import Task, unmapped
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture

from flows.progress import StageProgress, files_from_now, follow, wrapped
from flows.runners import workers
from tasks.progress import forget, told_of
from tasks.shards import abandon

GROUPS = 16  # up to so many shards, each is a group of its own
GROUPS_A_WORKER = 8


def run_over_shards(
    task: Task,
    shards: Mapping[str, Mapping[str, Any]],
    sizes: Mapping[str, int],
    stage: StageProgress,
    unit: str,
    folder: Path,
    **fixed: Any,
) -> list[Any]:
    """Run a task of `tasks.shards` over every shard and return what it says of each, in order.

    `shards` are each one's own arguments by name, `fixed` those of all; a shard appears in `folder` under its name and
    stands for `sizes` units of progress. What has not begun when a shard fails, or the run is stopped, does not begin.
    """
    run = FlowRunContext.get()
    if run is None:
        raise RuntimeError("a stage runs over its shards inside a flow")
    groups = grouped(list(shards), workers(run.task_runner))
    token = uuid4().hex
    futures: Sequence[PrefectFuture[Any]] = []
    written = files_from_now(folder)
    try:
        futures = task.map(
            shards=[{name: shards[name] for name in group} for group in groups],
            fixed=unmapped(fixed),
            token=unmapped(token),
        )
        parts = [{name: sizes[name] for name in group} for group in groups]
        results = follow(futures, stage, parts, unit, written, lambda: told_of(token))
    except BaseException:
        abandon(token)
        for future in futures:
            wrapped(future).cancel()
        raise
    finally:
        forget(token)
    return [result for group in results for result in group]


def grouped(names: Sequence[str], workers: int) -> list[Sequence[str]]:
    """Cut shards into groups of neighbours that differ by at most one in length."""
    count = min(len(names), max(GROUPS, GROUPS_A_WORKER * workers))
    return [names[number * len(names) // count : (number + 1) * len(names) // count] for number in range(count)]
