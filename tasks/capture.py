"""Stage 3: capture the attention maps of inverted noise to Parquet."""

from __future__ import annotations

from pathlib import Path

from l2s_core.data.scene_shards import load_scenes
from l2s_core.data.scenes import images_of
from l2s_core.dataset.collect import collect_maps, map_source
from l2s_core.dataset.reader import verify_shard
from l2s_core.dataset.writer import write_shard
from l2s_core.diffusion.noise import load_noise
from l2s_core.evaluation.run import Run
from l2s_core.storage.store import ensure
from tasks.models import backbone_for
from tasks.shards import over_shards
from tasks.stage_task import GPU, accelerator


def capture_shard(run: Run, scenes: Path, noise: Path, rebuild: bool = False) -> Path:
    """Write the maps of one shard of noise, made of `scenes`, unless they are there; return their path."""
    path = run.paths.maps / noise.with_suffix(".parquet").name
    config = run.config

    def build() -> None:
        images = images_of(load_scenes(scenes))
        with accelerator():
            backbone = backbone_for(config)
            source = map_source(backbone, config.capture, config.backbone.steps, config.data.labels)
            captured = collect_maps(backbone, load_noise(noise), images, source, batch=config.batch)
        write_shard(path, captured, run.paths.maps.name)

    ensure(path, verify_shard, build, rebuild=rebuild)
    return path


capture_shards = over_shards(capture_shard, name="capture attention", tags=[GPU])
