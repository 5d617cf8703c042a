"""What reports call things."""

from __future__ import annotations

MAPS = {"inverted": "inverted scenes", "trajectories": "own sampling", "both": "both"}  # what a classifier learns from
