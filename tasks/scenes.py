"""Stage 1: render scenes."""

from __future__ import annotations

from pathlib import Path

from l2s_core.data.miniworld import make_scenes
from l2s_core.data.scenes import load_scenes, save_scenes
from l2s_core.stages import Stages
from l2s_core.store import ensure
from tasks.stage_task import stage_task


@stage_task(name="render scenes")
def render_scenes(stages: Stages, shard: str, ids: list[str], rebuild: bool = False) -> Path:
    """Write one shard of scenes unless it is there; return its path."""
    path = stages.scenes / f"{shard}.safetensors"
    ensure(path, load_scenes, lambda: save_scenes(path, make_scenes(stages.config.data, ids)), rebuild=rebuild)
    return path
