"""Reading image files of strangers: decoded whole or not at all, upright, on white, made of one size."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from l2s_core.errors import UserError
from l2s_core.sizes import Size, sides

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM")
"""The formats that photographs come in. Pillow has more, and some of them start programs (EPS: Ghostscript)."""
MAX_PIXELS = 64_000_000  # an image that claims more is not decoded
MAX_SIDE = 65_535  # pixels; the longest that JPEG has
WHITE = (255, 255, 255)
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation to what makes an image upright."""
FIRST_ON_ITS_SIDE = 5  # orientations from here on swap width and height

Part = tuple[float, float, float, float]
"""A part of an image: left, upper, right, lower, in pixels."""


def read_image(path: Path, size: Size, *, resize: str = "crop") -> np.ndarray:
    """Return uint8 RGB (H, W, 3) of the image, brought to a size as `ReadSource.resize` says.

    What is transparent shows white. Raises UserError for a file that is no image, is cut off, or would be too large to
    decode safely, whatever the decoder raises for it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata; and our own limit of pixels is the lower one
            with Image.open(path, formats=_formats()) as image:
                _require_bounds(image)
                image.load()
                upright = _upright(image)
                return WAYS[resize](_colours(upright), sides(size))
    except Image.DecompressionBombError:  # Pillow's own, from a higher limit, comes before the size is known
        raise UserError(f"image too large to decode safely (more than {MAX_PIXELS} pixels)") from None
    except Exception:  # decoders raise many kinds for a damaged file
        raise UserError(f"not an image, or a damaged one (read are {', '.join(FORMATS)})") from None


@cache
def _formats() -> tuple[str, ...]:
    """The formats of photographs that this machine's Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def image_size(path: Path) -> tuple[int, int] | None:
    """Return the (width, height) of an image as it is looked at, from its header; None for a file that is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_formats()) as image:
                turned = _orientation(image) >= FIRST_ON_ITS_SIDE
                return image.size[::-1] if turned else image.size
    except Exception:  # decoders raise many kinds for a damaged file
        return None


def _require_bounds(image: Image.Image) -> None:
    """Raise DecompressionBombError for an image that is too large to decode."""
    if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
        raise Image.DecompressionBombError


def _upright(image: Image.Image) -> Image.Image:
    """Return an image as its EXIF says to look at it.

    `ImageOps.exif_transpose` writes the block anew, and fails on any damaged entry of it.
    """
    turned = _TURNED.get(_orientation(image))
    return image if turned is None else image.transpose(turned)


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; 1, upright, where it says none, as a damaged block does."""
    try:
        stated = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # struct.error, TypeError, AttributeError, …
        return 1
    return stated if stated in _TURNED else 1


def _colours(image: Image.Image) -> Image.Image:
    """Return an image as RGB, on white where it is transparent."""
    image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return grey of more than 8 bits (modes "I;16", "I" and "F") as grey of 8; `convert` would clip it at 255.

    The mode "I" and fractions say not how many bits they have: 8 or 16 where no shade needs more, else as many as the
    lightest one needs. Fractions of which none is above 1 go from black, 0, to white, 1.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    shades = np.nan_to_num(np.asarray(image, dtype=np.float64)).clip(0)
    lightest = shades.max(initial=0)
    if image.mode == "F" and lightest <= 1:
        return Image.fromarray((shades * 255).round().astype(np.uint8))
    bits = 8 if lightest < 2**8 and image.mode in ("I", "F") else max(16, int(lightest).bit_length())
    return Image.fromarray((shades / 2 ** (bits - 8)).astype(np.uint8))


def shown_part(image: tuple[int, int], shape: Size, resize: str) -> Part:
    """Return the part of an upright image (width, height) that is shown in the proportions of `shape`.

    It depends on `ReadSource.resize`: all of it, or the largest centred part of these proportions.
    """
    width, height = image
    if resize not in CROPPED:
        return 0, 0, width, height
    rows, columns = sides(shape)
    across = min(width, height * columns / rows)
    along = min(height, width * rows / columns)
    left = (width - across) / 2
    top = (height - along) / 2
    return left, top, left + across, top + along


def cropped(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return the largest centred part of an image at (height, width) pixels, by Lanczos' filter."""
    width_first = size[::-1]
    if image.size != width_first:
        image = ImageOps.fit(image, width_first, Image.Resampling.LANCZOS)
    return np.asarray(image)


def cut_out(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return the same part, cut out first and resized by a bicubic filter, which then sees nothing beside it."""
    left, top, right, bottom = map(round, shown_part(image.size, size, "crop-bicubic"))
    return squashed(image.crop((left, top, right, bottom)), size)


def squashed(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return all of an image at (height, width) pixels, whatever its proportions, by a bicubic filter."""
    return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC))


def padded(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return all of an image at (height, width) pixels with white beside it, by Lanczos' filter."""
    return np.asarray(ImageOps.pad(image, size[::-1], Image.Resampling.LANCZOS, color=WHITE))


CROPPED = ("crop", "crop-bicubic")
"""Ways that show a part of an image alone."""
WAYS: dict[str, Callable[[Image.Image, tuple[int, int]], np.ndarray]] = {
    "crop": cropped,
    "crop-bicubic": cut_out,
    "squash": squashed,
    "pad": padded,
}
"""How an image is brought to a size: the values of `ReadSource.resize`."""
