"""Reading image files of strangers: decoded whole or not at all, cropped to a square, resized."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from l2s_core.errors import UserError

MAX_PIXELS = 100_000_000  # an image that claims more is not decoded


def read_image(path: Path, side: int, *, resize: str = "crop") -> np.ndarray:
    """Return uint8 RGB (side, side, 3) of the image, made square as `ReadSource.resize` says.

    Raises UserError for a file that is no image, is cut off, or would be too large to decode safely.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                image.load()
                upright = _eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
                return SQUARES[resize](upright, side)
    except Image.DecompressionBombError:  # Pillow's own, from a higher limit, comes before the size is known
        raise UserError(f"image too large to decode safely (more than {MAX_PIXELS} pixels)") from None
    except (OSError, SyntaxError, ValueError):
        raise UserError("not an image, or a damaged one") from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return grey of 16 bits (modes "I;16" and "I") by its upper 8; `convert` would take all above 255 as white."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))


def square(image: Image.Image, side: int) -> np.ndarray:
    """Return the largest centred square of an image at side x side pixels, by Lanczos' filter."""
    if image.size != (side, side):
        image = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def cut_square(image: Image.Image, side: int) -> np.ndarray:
    """Return the same square, cut out first and resized by a bicubic filter, which then sees nothing beside it."""
    short = min(image.size)
    left = (image.width - short) / 2
    top = (image.height - short) / 2
    return squashed(image.crop((round(left), round(top), round(left + short), round(top + short))), side)


def squashed(image: Image.Image, side: int) -> np.ndarray:
    """Return all of an image at side x side pixels, whatever its proportions, by a bicubic filter."""
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


SQUARES: dict[str, Callable[[Image.Image, int], np.ndarray]] = {
    "crop": square,
    "crop-bicubic": cut_square,
    "squash": squashed,
}
"""How an image becomes square: the values of `ReadSource.resize`."""
