"""Sizes of what need not be square: images in pixels, latents, map grids in cells."""

from __future__ import annotations

Size = int | tuple[int, int]
"""The side of a square, or (height, width). A square is always written as one number: addresses and files hold it."""

SQUARE: Size = 1
"""The shape of every square."""


def sides(size: Size) -> tuple[int, int]:
    """Return the (height, width) of a size."""
    return (size, size) if isinstance(size, int) else size


def size_of(height: int, width: int) -> Size:
    """Return a height and a width as a size."""
    return height if height == width else (height, width)


def size_text(size: Size) -> str:
    """Return a size for a reader: height × width."""
    return " × ".join(map(str, sides(size)))
