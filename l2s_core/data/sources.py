"""From a data configuration to a catalogue, and from its entries to scenes: the one place that knows every source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from l2s_core.config import DataConfig
from l2s_core.data import gqa, jsonl, miniworld, orm
from l2s_core.data.catalogue import Catalogue, Entry, Skips, choose
from l2s_core.data.images import read_image, square
from l2s_core.data.scenes import Scene
from l2s_core.data.twins import twins_of
from l2s_core.errors import UserError
from l2s_core.files import file_digest

READERS = {"gqa": gqa, "orm": orm, "jsonl": jsonl}


def data_files(config: DataConfig) -> list[Path]:
    """Return the annotation files of a source; raises UserError when they are not there."""
    if config.source == "miniworld":
        return []
    if not config.path.is_dir():
        raise UserError(f"data.path {config.path} is not a folder; give the one that holds the {config.source} data")
    return READERS[config.source].annotation_files(config.path)


def data_fingerprint(config: DataConfig) -> list[str]:
    """Return the digests of a source's annotation files."""
    return [file_digest(path) for path in data_files(config)]


def build_catalogue(config: DataConfig) -> Catalogue:
    """Return the scenes a run uses; raises UserError when the source has not a single one for a relation."""
    if config.source == "miniworld":
        return Catalogue(entries=[Entry(image_id=i, split=i.partition("-")[0]) for i in miniworld.scene_ids(config)])
    skips, reader = Skips(), READERS[config.source]
    extra = (twins_of(config.twins),) if config.source == "gqa" else ()
    return choose(config, reader.candidates(config.path, skips, *extra), skips)


def load_entries(config: DataConfig, entries: Sequence[Entry], side: int) -> tuple[list[Scene], Skips]:
    """Return the scenes of entries, images at side x side pixels; an image that cannot be read is skipped and counted."""
    skips = Skips()
    if config.source == "miniworld":
        scenes = miniworld.make_scenes(config, [entry.image_id for entry in entries])
        return [_resized(scene, side) for scene in scenes], skips
    scenes = []
    for entry in entries:
        try:
            image = read_image(config.path / entry.image, side)
        except UserError as error:
            skips.add(entry.image, str(error))
            continue
        scenes.append(Scene(image_id=entry.image_id, split=entry.split, image=image, triplet=entry.triplet))
    return scenes, skips


def _resized(scene: Scene, side: int) -> Scene:
    image = square(Image.fromarray(scene.image), side)
    return Scene(image_id=scene.image_id, split=scene.split, image=image, triplet=scene.triplet)
