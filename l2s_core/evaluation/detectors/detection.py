"""What a judge finds in an image."""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[int, int, int, int]
"""Corners x0, y0, x1, y1 in pixels; x1 and y1 are one past the last."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One object found: class name, box, confidence in [0, 1]."""

    name: str
    box: Box
    score: float
