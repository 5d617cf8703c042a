"""Rates with intervals."""

from __future__ import annotations

from math import sqrt

Z95 = 1.959963984540054


def wilson_interval(hits: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval of a rate (Wilson 1927); (0, 1) for no trials."""
    if count == 0:
        return 0.0, 1.0
    rate, spread = hits / count, z * z / count
    centre = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * sqrt(rate * (1 - rate) / count + spread / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)
