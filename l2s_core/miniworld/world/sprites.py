"""The object sprites: one RGBA atlas, cut and scaled on demand."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from l2s_core.errors import unknown_name
from l2s_core.storage.manifest import require_listed

OBJECTS: tuple[str, ...] = (
    "dog",
    "cat",
    "bird",
    "elephant",
    "zebra",
    "car",
    "boat",
    "train",
    "banana",
    "broccoli",
    "donut",
    "orange",
    "umbrella",
    "clock",
    "teddy bear",
    "traffic light",
)
CELL = 48
COLUMNS = 4
ATLAS_PATH = Path(__file__).parents[1] / "assets" / "sprites.png"


def object_index(name: str) -> int:
    """Return the index of an object name in OBJECTS; raises UserError for an unknown one."""
    if name not in OBJECTS:
        raise unknown_name("object", name, OBJECTS)
    return OBJECTS.index(name)


@lru_cache(maxsize=1)
def _atlas() -> Image.Image:
    require_listed(ATLAS_PATH.parent, ATLAS_PATH)
    return Image.open(ATLAS_PATH).convert("RGBA")


@lru_cache(maxsize=1024)
def sprite(index: int, size: int) -> np.ndarray:
    """Return the sprite of OBJECTS[index], its longer side `size` px, cropped to its ink.

    The result is float32 (height, width, 4) in [0, 1], colour premultiplied by alpha.
    """
    x = index % COLUMNS * CELL
    y = index // COLUMNS * CELL
    cell = _atlas().crop((x, y, x + CELL, y + CELL))
    ink = cell.crop(cell.getbbox())
    scale = size / max(ink.size)
    ink = ink.resize([max(1, round(side * scale)) for side in ink.size], Image.Resampling.LANCZOS)
    rgba = np.asarray(ink, dtype=np.float32) / 255
    rgba = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], axis=-1)
    rgba.setflags(write=False)
    return rgba
