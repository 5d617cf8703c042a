"""What every task here has in common."""

from __future__ import annotations

from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE

from l2s_core.errors import UserError

GPU = "gpu"  # tag of tasks that hold the accelerator; flows give it a concurrency limit


def _worth_a_retry(_task, _run, state) -> bool:
    """A user's mistake stays one, however often it is tried."""
    return not isinstance(state.result(raise_on_failure=False), UserError)


# Prefect's own cache is off: a stage checks its files itself and so notices when one is gone or damaged.
stage_task = partial(
    task, cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=1, retry_condition_fn=_worth_a_retry
)
