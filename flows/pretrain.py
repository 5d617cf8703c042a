"""The flow that trains the small world's models."""

from __future__ import annotations

from pathlib import Path

from flows.environment import HOME, prepare

prepare()

from prefect import flow  # noqa: E402

from flows.workspace import RUNNER, limit_gpu_tasks, locked  # noqa: E402
from l2s_core.miniworld.training.pretrain import load_pretrain_config  # noqa: E402
from tasks.pretraining import pretrain_models  # noqa: E402


@flow(name="pretrain", task_runner=RUNNER)
def pretrain(work: Path, device: str = "auto", home: Path = HOME, config: str = "mini-sd") -> Path:
    """Train small models in `work`, resuming from its checkpoints; returns their folder."""
    with locked(home):
        settings = load_pretrain_config(config)
        limit_gpu_tasks()
        return pretrain_models(settings, Path(work), device, Path(home))
