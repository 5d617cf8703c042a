"""From a data configuration to a catalogue, and from its entries to scenes: the one place that knows every source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from l2s_core.config import DataConfig
from l2s_core.data import gqa, jsonl, miniworld, orm
from l2s_core.data.catalogue import Catalogue, Entry, Fits, Skips, choose, merge
from l2s_core.data.images import read_image, square
from l2s_core.data.is_a import is_a_test
from l2s_core.data.listing import listing_digest
from l2s_core.data.scenes import Scene
from l2s_core.errors import UserError
from l2s_core.storage.files import file_digest

READERS = {"gqa": gqa, "orm": orm, "jsonl": jsonl}


def data_files(config: DataConfig) -> list[Path]:
    """Return the annotation files of every source; raises UserError when they are not there."""
    if config.source == "miniworld":
        return []
    files = []
    for part in config.parts:
        if not part.path.is_dir():
            raise UserError(f"data.path {part.path} is not a folder; give the one that holds the {part.source} data")
        files += READERS[part.source].annotation_files(part.path)
    return files


def data_fingerprint(config: DataConfig) -> list[str]:
    """Return the digests of the annotation files, and of the listing of every source's images; none for rendered scenes."""
    if config.source == "miniworld":
        return []
    annotations = [file_digest(path) for path in data_files(config)]
    return annotations + [
        listing_digest(part.path, READERS[part.source].image_names(part.path)) for part in config.parts
    ]


def build_catalogue(config: DataConfig, fits: Fits = lambda _triplet: True) -> Catalogue:
    """Return the scenes a run uses, of those read the ones that fit; raises UserError when a source has not a single one for a relation."""
    if config.source == "miniworld":
        return Catalogue(entries=[Entry(image_id=i, split=i.partition("-")[0]) for i in miniworld.scene_ids(config)])
    if config.beside:
        return merge([_read_catalogue(part, fits) for part in config.parts])
    return _read_catalogue(config, fits)


def _read_catalogue(part: DataConfig, fits: Fits) -> Catalogue:
    skips, reader = Skips(), READERS[part.source]
    extra = (is_a_test(part.is_a),) if part.source == "gqa" else ()
    return choose(part, reader.candidates(part.path, skips, *extra, attributes=part.attributes), skips, fits)


def load_entries(config: DataConfig, entries: Sequence[Entry], side: int) -> tuple[list[Scene], Skips]:
    """Return the scenes of entries, images at side x side pixels; an image that cannot be read is skipped and counted."""
    skips = Skips()
    if config.source == "miniworld":
        scenes = miniworld.make_scenes(config, [entry.image_id for entry in entries])
        return [_resized(scene, side) for scene in scenes], skips
    scenes = []
    for entry in entries:
        try:
            image = read_image(config.parts[entry.part].path / entry.image, side)
        except UserError as error:
            skips.add(entry.image, str(error))
            continue
        scenes.append(Scene(image_id=entry.image_id, split=entry.split, image=image, triplet=entry.triplet))
    return scenes, skips


def _resized(scene: Scene, side: int) -> Scene:
    image = square(Image.fromarray(scene.image), side)
    return Scene(image_id=scene.image_id, split=scene.split, image=image, triplet=scene.triplet)
