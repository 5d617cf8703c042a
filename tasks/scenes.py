"""Stage 1: choose the scenes, and make or read their images."""

from __future__ import annotations

from pathlib import Path

from l2s_core.backbones.window import window_test
from l2s_core.data.catalogue import Entry, load_catalogue, save_catalogue
from l2s_core.data.scene_shards import load_scenes, save_scenes
from l2s_core.data.source import source_of
from l2s_core.evaluation.run import Run
from l2s_core.storage.store import ensure
from tasks.shards import over_shards
from tasks.stage_task import stage_task


@stage_task(name="choose scenes")
def choose_scenes(run: Run, rebuild: bool = False) -> Path:
    """Write the catalogue of the run's scenes unless it is there; return its path."""
    path = run.paths.catalogue
    config = run.config
    size = run.paths.inputs.size

    def build() -> None:
        save_catalogue(path, source_of(config.data).catalogue_for(size, window_test(config.backbone)))

    ensure(path, load_catalogue, build, rebuild=rebuild)
    return path


def prepare_shard(run: Run, shard: str, entries: list[Entry], rebuild: bool = False) -> Path:
    """Write one shard of scenes unless it is there; return its path."""
    path = run.paths.scenes / f"{shard}.safetensors"

    def build() -> None:
        scenes, skips = source_of(run.config.data).load_entries(entries, run.paths.inputs.size)
        save_scenes(path, scenes, run.paths.inputs.size, skips.counts, skips.named)

    ensure(path, load_scenes, build, rebuild=rebuild)
    return path


prepare_shards = over_shards(prepare_shard, name="prepare scenes")
