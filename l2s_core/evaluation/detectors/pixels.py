"""From images to the pixels a model was trained on, as the model's folder describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from l2s_core.errors import UserError
from l2s_core.storage.files import read_json

FILES = ("preprocessor_config.json", "processor_config.json")  # the first one there counts
MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers of resampling filters


@dataclass(frozen=True, kw_only=True)
class PixelSettings:
    """The size of a model's input in pixels, and what its channels are normalised by, in units of [0, 1].

    `size` is either {"height", "width"}, or {"shortest_edge", "longest_edge"}, which keeps the image's proportions.
    """

    size: Mapping[str, int]
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    mode: str = "bilinear"

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that an image is resized to."""
        if "height" in self.size:
            return self.size["height"], self.size["width"]
        factor = min(self.size["shortest_edge"] / min(height, width), self.size["longest_edge"] / max(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))


def read_pixel_settings(folder: Path) -> PixelSettings:
    """Read a model folder's settings; raises UserError when its file is missing, or cannot be followed."""
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise UserError(
            f"{folder} does not say what pixels its model wants: it has no {FILES[0]}; fetch the whole model again"
        )
    stated = read_json(file)
    try:
        return _settings(stated.get("image_processor", stated))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"cannot follow {file}: {type(error).__name__} {error}; expected size, image_mean and image_std"
        ) from None


def _settings(stated: Mapping[str, Any]) -> PixelSettings:
    size = stated["size"]
    mean = tuple(stated["image_mean"])
    deviation = tuple(stated["image_std"])
    if isinstance(size, int):
        size = {"height": size, "width": size}
    size = {name: int(value) for name, value in size.items() if value is not None}
    if (
        not ({"height", "width"} <= set(size) or {"shortest_edge", "longest_edge"} <= set(size))
        or min(size.values()) < 1
    ):
        raise ValueError(f"size {size}")
    if len(mean) != 3 or len(deviation) != 3 or min(deviation) <= 0:
        raise ValueError(f"image_mean {mean}, image_std {deviation}")
    return PixelSettings(size=size, mean=mean, deviation=deviation, mode=MODES[stated.get("resample", 2)])


def model_pixels(images: np.ndarray, settings: PixelSettings, device: str, *, square: bool = False) -> Tensor:
    """Return uint8 images (B, H, W, 3) as a model's input (B, 3, h, w).

    `square` first pads the lower or right edge with black to a square, as the library does for OWLv2. Resizing filters
    as Pillow does but rounds nothing to 8 bits: values differ from its own by at most half of 1/255 before normalising.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float() / 255
    height, width = images.shape[1:3]
    if square:
        pixels = pad(pixels, (0, max(height - width, 0), 0, max(width - height, 0)))
    pixels = interpolate(pixels, size=settings.target(*pixels.shape[2:]), mode=settings.mode, antialias=True).clamp(
        0, 1
    )
    mean, deviation = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (settings.mean, settings.deviation))
    return (pixels - mean) / deviation
