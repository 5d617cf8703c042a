"""One task run for several shards, each still an output of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from prefect import Task
from prefect.states import Cancelled

from l2s_core.errors import first_line
from tasks.progress import telling
from tasks.stage_task import dask_worker, stage_task

log = logging.getLogger("l2s")
_abandoned: set[str] = set()  # stages that nobody waits for any more, by their token


def over_shards(work: Callable[..., Any], **options: Any) -> Task:
    """Make `work`, which makes one shard, a task that makes several.

    The task takes each shard's own arguments by the shard's name, those that all have (`fixed`) and the stage's
    token. It returns what `work` does for each. A failure ends the group; its traceback says in which shard it was.
    Shards before it stay, and a retry finds them.
    """

    @stage_task(**options)
    def group(shards: Mapping[str, Mapping[str, Any]], fixed: Mapping[str, Any], token: str) -> Any:
        results = []
        for name, own in shards.items():
            if token in _abandoned or _taken_back():
                return Cancelled(message=f"stopped before shard {name}")
            try:
                with telling(token, name):
                    results.append(work(**own, **fixed))
            except Exception as error:
                error.add_note(f"in shard {name} of {list(shards)}")
                log.error("%s: shard %s failed: %s", work.__name__, name, first_line(error))
                raise
        return results

    return group


def abandon(token: str) -> None:
    """Have the groups of a stage that work in this process end after the shard they are in."""
    _abandoned.add(token)


def _taken_back() -> bool:
    """Whether this is a Dask task whose scheduler has taken it back: it was cancelled, or its flow is gone."""
    worker = dask_worker()
    return worker is not None and worker.state.tasks[worker.get_current_task()].state == "cancelled"
