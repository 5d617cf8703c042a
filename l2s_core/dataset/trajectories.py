"""Maps of the backbone's own sampling, labelled with the relation that came out: no image is inverted.

Inverted noise is not white and gives its image away: mini-flux's `dual-bare`, trained on inverted scenes, is right on
0.67 of their maps at the first step and on 0.36 of those taken while sampling (`l2s reproduce mini-flux`). Steering
reads the latter. The paper has no such maps; like its ORM images (Guo et al. 2025, arXiv 2501.13926), these are
generated and a model says what is true in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from l2s_core.attention.pairs import pair_maps
from l2s_core.backbones.base import Backbone
from l2s_core.data.scenes import PromptKind, Scene
from l2s_core.dataset.recorder import Recorder
from l2s_core.dataset.schema import MapRecord, MapShard, MapSource
from l2s_core.diffusion.noise import LabelledPrompt
from l2s_core.diffusion.sampler import Sampler
from l2s_core.hashing import stable_fraction, stable_seed
from l2s_core.prompts.chains import chained_prompt
from l2s_core.prompts.pairs import RelatedPair, related_pairs, relations_by_pair
from l2s_core.prompts.prompt import PHOTO_PREFIX, Phrases, prompt_for
from l2s_core.relations import ATTRIBUTE, DIAGONALS, PLANAR, Triplet, Wording

NO_PSNR = float("nan")  # nothing was inverted, so there is no reconstruction to measure
DIAGONAL_SHARE = 0.25  # of the prompts of a single pair that state a diagonal, where the data has diagonals


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """An image to sample: its prompt, the seed of its noise, and the split of the scene that gave it its objects."""

    image_id: str
    split: str
    prompt: Phrases
    seed: int


def trajectories_of(
    scenes: Sequence[Scene], count: int, relations: Sequence[str], *, diagonals: bool = False
) -> list[Trajectory]:
    """Return `count` trajectories for the objects of each scene.

    Their order, the relation that the prompt states of every pair, one of `relations`, and the wording are drawn by
    hash; every other prompt has the benchmark's wording. A scene of three objects and more gives prompts that chain its
    objects as its own do. With `diagonals`, DIAGONAL_SHARE of the prompts of a single pair state a diagonal. Scenes of
    attributes have one object and give none.
    """
    return [
        _trajectory(scene, f"{scene.image_id}+{number}", relations, diagonals)
        for scene in scenes
        if scene.triplet.relation != ATTRIBUTE
        for number in range(count)
    ]


def _trajectory(scene: Scene, image_id: str, relations: Sequence[str], diagonals: bool) -> Trajectory:
    draw = partial(stable_fraction, "trajectory", image_id)
    pairs = list(relations_by_pair(scene.true))
    prefix = PHOTO_PREFIX if draw("wording") < 0.5 else ""
    diagonal = diagonals and len(pairs) == 1 and draw("diagonal") < DIAGONAL_SHARE
    if len(pairs) == 1 and not diagonal:
        subject, object_ = pairs[0] if draw("order") < 0.5 else pairs[0][::-1]
        relation = relations[int(draw("relation") * len(relations))]
        prompt: Phrases = prompt_for(Triplet(subject=subject, relation=relation, object=object_), prefix=prefix)
    else:
        prompt = _chain(pairs, draw, relations, diagonal, prefix)
    seed = stable_seed("trajectory", image_id, "seed")
    return Trajectory(image_id=image_id, split=scene.split, prompt=prompt, seed=seed)


def _chain(
    pairs: Sequence[tuple[str, str]],
    draw: Callable[..., float],
    relations: Sequence[str],
    diagonal: bool,
    prefix: str,
) -> Phrases:
    """Return a prompt of the same pairs, their objects in another order; with a prefix, in the benchmark's wording."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    other = dict(zip(names, sorted(names, key=lambda name: draw("order", name)), strict=True))
    stated = []
    for number, (subject, object_) in enumerate(pairs):
        words: list[tuple[str, ...]] = [(name,) for name in relations]
        if diagonal:
            words = [corner for corner in DIAGONALS if set(corner) <= set(relations)]
        chosen = words[int(draw("relation", number) * len(words))]
        stated += [Triplet(subject=other[subject], relation=word, object=other[object_]) for word in chosen]
    return chained_prompt(stated, prefix=prefix) if prefix else chained_prompt(stated, article=Wording.PLAIN.article)


Label = Callable[[Sequence[Phrases], np.ndarray], Sequence[Sequence[frozenset[str]]]]
"""(prompts, uint8 images (B, H, W, 3)) -> for every pair that a prompt relates, the relations that its image shows."""


def sample_maps(
    sampler: Sampler[Backbone],
    trajectories: Sequence[Trajectory],
    source: MapSource,
    *,
    label: Label,
    relations: Sequence[str],
    diagonals: bool = False,
) -> MapShard:
    """Sample every trajectory; return one record per (image, pair, captured step) with its maps.

    It is done as in `collect_maps`. A pair is kept when `label` finds one relation of it, or with `diagonals` two, all
    of `relations`. Its prompt's kind is "pos" where all that it states of the pair is true.
    """
    most = 2 if diagonals else 1
    prompts = [trajectory.prompt for trajectory in trajectories]
    seeds = [trajectory.seed for trajectory in trajectories]
    records: list[MapRecord] = []
    maps: list[np.ndarray] = []
    for sampled in sampler.batches(prompts, seeds, partial(Recorder, source=source)):
        (recorder,) = sampled.observers
        shown = label(prompts[sampled.rows], sampled.images.numpy())
        for row, (trajectory, held) in enumerate(zip(trajectories[sampled.rows], shown, strict=True)):
            for pair, true in zip(related_pairs(trajectory.prompt), held, strict=True):
                if not 1 <= len(true) <= most or not true <= set(relations):
                    continue
                records += [_record(trajectory, pair, true, step) for step in source.steps]
                here = (torch.tensor([row]), torch.tensor([pair.places]), source.context)
                maps += [pair_maps(recorder.maps[step], *here).numpy() for step in source.steps]
    return MapShard.joined(records, maps, source)


def _record(trajectory: Trajectory, pair: RelatedPair, true: frozenset[str], step: int) -> MapRecord:
    held = tuple(Triplet(subject=pair.subject, relation=name, object=pair.object) for name in PLANAR if name in true)
    kind = PromptKind.POS if set(pair.stated) <= true else PromptKind.NEG
    row = LabelledPrompt(
        image_id=trajectory.image_id, split=trajectory.split, kind=kind, prompt=trajectory.prompt, true=held
    )
    return MapRecord.of(row, pair, step, NO_PSNR)
