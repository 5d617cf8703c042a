"""Rendered scenes to hold sampled images against: they show what the prompts ask for, and nothing is trained or judged on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from l2s_core.errors import UserError
from l2s_core.miniworld.scenes import render, sample_layout, scene_rng
from l2s_core.prompts import Triplet

STREAM = 91  # of these scenes alone; no training, development or test scene comes from it


def reference_scenes(triplets: Sequence[Triplet], count: int, *, first: int = 0, seed: int = 0) -> np.ndarray:
    """Render uint8 scenes (count, 64, 64, 3) of the triplets in turn, with their two objects and relation and nothing else.

    Scene number `first` + i depends on its number, the seed and its triplet alone. Raises UserError without triplets, for
    fewer than one scene, and for objects that are no sprites.
    """
    if not triplets or count < 1:
        raise UserError(f"{count} reference scenes of {len(triplets)} triplets cannot be drawn; give at least one of each")
    return np.stack([_scene(triplets[i % len(triplets)], seed, i) for i in range(first, first + count)])


def _scene(triplet: Triplet, seed: int, number: int) -> np.ndarray:
    rng = scene_rng(seed, number, STREAM)
    return render(sample_layout(rng, objects=(triplet.subject, triplet.object), relation=triplet.relation))
