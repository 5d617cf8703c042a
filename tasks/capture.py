"""Stage 3: capture the attention maps of inverted noise to Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from l2s_core.dataset.collect import collect_maps, map_source
from l2s_core.dataset.reader import verify_shard
from l2s_core.dataset.writer import write_shard
from l2s_core.diffusion.noise import load_noise
from l2s_core.evaluation.run import Run
from l2s_core.storage.store import ensure
from tasks.models import backbone_for
from tasks.shards import over_shards
from tasks.stage_task import GPU, accelerator


@dataclass(frozen=True, kw_only=True)
class CapturedShard:
    """A Parquet shard, and how many images it holds and how many the PSNR filter dropped."""

    path: Path
    images: int
    dropped: int


def capture_shard(run: Run, noise: Path, rebuild: bool = False) -> CapturedShard:
    """Write the maps of one shard of noise unless they are there."""
    path = run.paths.maps / noise.with_suffix(".parquet").name
    config = run.config
    shard = load_noise(noise)
    kept = shard.kept(config.inversion.min_psnr)

    def build() -> None:
        with accelerator():
            backbone = backbone_for(config)
            source = map_source(backbone, config.capture, config.backbone.steps, config.data.labels)
            captured = collect_maps(backbone, kept, source, batch=config.batch)
        write_shard(path, captured, run.paths.maps.name)

    ensure(path, verify_shard, build, rebuild=rebuild)
    images, all_images = ({row.image_id for row in s.rows} for s in (kept, shard))
    return CapturedShard(path=path, images=len(images), dropped=len(all_images) - len(images))


capture_shards = over_shards(capture_shard, name="capture attention", tags=[GPU])
