"""What a judge finds in an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One object found: class name, box (x0, y0, x1, y1) in pixels, confidence in [0, 1]."""

    name: str
    box: tuple[int, int, int, int]
    score: float
