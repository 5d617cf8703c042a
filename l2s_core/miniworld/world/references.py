"""Rendered scenes to hold sampled images against.

They show what the prompts ask for. Nothing is trained or judged on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from l2s_core.errors import UserError
from l2s_core.miniworld.world.scenes import SIZES, Layout, render, sample_layout
from l2s_core.miniworld.world.sprites import OBJECTS
from l2s_core.miniworld.world.streams import Stream, scene_rng
from l2s_core.prompts.prompt import Phrases
from l2s_core.relations import OPPOSITE


def can_be_shown(prompt: Phrases) -> bool:
    """Whether a scene can surely show a prompt.

    It can with as many sprites as fit, no relation beside its opposite, and of three objects not all three pairs
    related.
    """
    if not 1 <= len(prompt.objects) <= max(SIZES) or not set(prompt.objects) <= set(OBJECTS):
        return False
    stated = {(t.subject, t.relation, t.object) for t in prompt.triplets}
    pairs = {frozenset((subject, object_)) for subject, _, object_ in stated}
    both_ways = stated | {(object_, OPPOSITE[relation], subject) for subject, relation, object_ in stated}
    return len(pairs) < len(prompt.objects) and not any(
        (a, OPPOSITE[relation], b) in both_ways for a, relation, b in both_ways
    )


def reference_scenes(prompts: Sequence[Phrases], count: int, *, first: int = 0, seed: int = 0) -> np.ndarray:
    """Render uint8 scenes (count, 64, 64, 3) of the prompts in turn, with their objects and relations and nothing else.

    The pair of a single relation has no other relation; where a prompt has several, each holds by GenEval's rule.
    Scene number `first` + i depends on its number, the seed and its prompt alone. Raises UserError without prompts,
    for fewer than one scene, and for a prompt that cannot be shown.
    """
    if not prompts or count < 1:
        raise UserError(
            f"{count} reference scenes of {len(prompts)} prompts cannot be drawn; give at least one of each"
        )
    return np.stack([_scene(prompts[i % len(prompts)], seed, i) for i in range(first, first + count)])


def _scene(prompt: Phrases, seed: int, number: int) -> np.ndarray:
    if not can_be_shown(prompt):
        raise UserError(
            f"no scene can show {prompt.text!r}; "
            f"allowed: 1 to {max(SIZES)} sprites, with relations that can hold at once, and not in a ring"
        )
    return render(
        sample_layout(
            scene_rng(seed, number, Stream.REFERENCES), objects=prompt.objects, accept=partial(_shows, prompt)
        )
    )


def _shows(prompt: Phrases, layout: Layout) -> bool:
    alone = len(prompt.triplets) == 1
    place = prompt.objects.index
    held = {t: layout.relations(place(t.subject), place(t.object)) for t in prompt.triplets}
    return all(found == {t.relation} if alone else t.relation in found for t, found in held.items())
