"""The flow that rehearses a run on random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.environment import HOME, prepare

prepare()

from prefect import flow  # noqa: E402

from flows.workspace import RUNNER, limit_gpu_tasks, locked  # noqa: E402
from l2s_core.config import Scale, load_run_config  # noqa: E402
from l2s_core.planning.measured import Rehearsal  # noqa: E402
from tasks.rehearsal import rehearse_run  # noqa: E402


@flow(name="rehearse", task_runner=RUNNER)
def rehearse(
    config: str, overrides: dict[str, Any] | None = None, scale: Scale = "full", images: int = 2, home: Path = HOME
) -> Rehearsal:
    """Measure what every stage of a run costs on this machine; returns the table."""
    with locked(home):
        limit_gpu_tasks()
        return rehearse_run(load_run_config(config, overrides), scale, images, Path(home))
