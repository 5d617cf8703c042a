"""Stage 3, its other half: record the attention of the backbone's own sampling to Parquet."""

from __future__ import annotations

from pathlib import Path

from l2s_core.data.scene_shards import load_scenes
from l2s_core.dataset.collect import map_source
from l2s_core.dataset.reader import verify_shard
from l2s_core.dataset.trajectories import sample_maps, trajectories_of
from l2s_core.dataset.writer import write_shard
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.labels import ShownRelations
from l2s_core.evaluation.run import Run
from l2s_core.storage.store import ensure
from tasks.models import backbone_for, judge_for
from tasks.shards import over_shards
from tasks.stage_task import GPU, accelerator


def sample_trajectories_shard(run: Run, scenes: Path, rebuild: bool = False) -> Path:
    """Sample images for the objects of one shard of scenes, and write their maps.

    What is there already is kept. Returns the path.
    """
    path = run.paths.trajectories / scenes.with_suffix(".parquet").name
    config = run.config

    def build() -> None:
        relations = config.data.shown
        diagonals = config.data.states_diagonals
        trajectories = trajectories_of(load_scenes(scenes), config.trajectories, relations, diagonals=diagonals)
        with accelerator():
            sampler = Sampler.of(backbone_for(config), config)
            source = map_source(sampler.backbone, config.capture, config.backbone.steps, config.data.labels)
            label = ShownRelations(judge=judge_for(run), min_score=config.benchmark.min_score)
            shard = sample_maps(sampler, trajectories, source, label=label, relations=relations, diagonals=diagonals)
        write_shard(path, shard, run.paths.trajectories.name)

    ensure(path, verify_shard, build, rebuild=rebuild)
    return path


sample_trajectories = over_shards(sample_trajectories_shard, name="sample trajectories", tags=[GPU])
