"""Stage 2: invert every scene with a true and a wrong prompt."""

from __future__ import annotations

from pathlib import Path

from l2s_core.data.scene_shards import load_scenes
from l2s_core.data.scenes import PromptForm
from l2s_core.diffusion.noise import invert_scenes, load_noise, save_noise
from l2s_core.evaluation.run import Run
from l2s_core.storage.store import ensure
from tasks.models import backbone_for
from tasks.shards import over_shards
from tasks.stage_task import GPU, accelerator


def invert_shard(run: Run, scenes: Path, rebuild: bool = False) -> Path:
    """Write the noise of one shard of scenes unless it is there; return its path."""
    path = run.paths.noise / scenes.name
    config = run.config

    def build() -> None:
        with accelerator():
            shard = invert_scenes(
                backbone_for(config),
                load_scenes(scenes),
                config.inversion,
                steps=config.backbone.steps,
                batch=config.batch,
                form=PromptForm.of(config.data),
            )
        save_noise(path, shard)

    ensure(path, load_noise, build, rebuild=rebuild)
    return path


invert_shards = over_shards(invert_shard, name="invert scenes", tags=[GPU])
