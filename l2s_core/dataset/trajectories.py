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

from l2s_core.backbones.base import Backbone
from l2s_core.data.scenes import PromptKind, Scene
from l2s_core.dataset.recorder import Recorder
from l2s_core.dataset.schema import MapRecord, MapShard, MapSource
from l2s_core.diffusion.noise import LabelledPrompt
from l2s_core.diffusion.sampler import Sampler
from l2s_core.hashing import stable_fraction, stable_seed
from l2s_core.prompts.prompt import PHOTO_PREFIX, Prompt, prompt_for
from l2s_core.relations import ATTRIBUTE, Triplet

NO_PSNR = float("nan")  # nothing was inverted, so there is no reconstruction to measure


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """An image to sample: its prompt, the seed of its noise, and the split of the scene that gave it its objects."""

    image_id: str
    split: str
    prompt: Prompt
    seed: int


def trajectories_of(scenes: Sequence[Scene], count: int, relations: Sequence[str]) -> list[Trajectory]:
    """Return `count` trajectories for the objects of each scene.

    Their order, the relation that the prompt states, one of `relations`, and the wording are drawn by hash; every other
    prompt has the benchmark's wording. Scenes of attributes have one object and give none.
    """
    return [
        _trajectory(scene, f"{scene.image_id}+{number}", relations)
        for scene in scenes
        if scene.triplet.relation != ATTRIBUTE
        for number in range(count)
    ]


def _trajectory(scene: Scene, image_id: str, relations: Sequence[str]) -> Trajectory:
    draw = partial(stable_fraction, "trajectory", image_id)
    objects = (scene.triplet.subject, scene.triplet.object)
    subject, object_ = objects if draw("order") < 0.5 else objects[::-1]
    relation = relations[int(draw("relation") * len(relations))]
    prefix = PHOTO_PREFIX if draw("wording") < 0.5 else ""
    return Trajectory(
        image_id=image_id,
        split=scene.split,
        prompt=prompt_for(Triplet(subject=subject, relation=relation, object=object_), prefix=prefix),
        seed=stable_seed("trajectory", image_id, "seed"),
    )


Label = Callable[[Sequence[Prompt], np.ndarray], Sequence[str | None]]
"""(prompts, uint8 images (B, H, W, 3)) -> the one relation of each prompt's objects that its image shows, or None."""


def sample_maps(
    sampler: Sampler[Backbone],
    trajectories: Sequence[Trajectory],
    source: MapSource,
    *,
    label: Label,
    relations: Sequence[str],
) -> MapShard:
    """Sample every trajectory; return one record per (image, captured step) with its maps, as `collect_maps` does.

    An image is kept when `label` finds one relation in it, and it is one of `relations`. The prompt's kind is "pos"
    where it states that relation.
    """
    prompts = [trajectory.prompt for trajectory in trajectories]
    seeds = [trajectory.seed for trajectory in trajectories]
    records: list[MapRecord] = []
    maps: list[np.ndarray] = []
    for sampled in sampler.batches(prompts, seeds, partial(Recorder, source=source)):
        (recorder,) = sampled.observers
        shown = label(prompts[sampled.rows], sampled.images.numpy())
        for row, (trajectory, true) in enumerate(zip(trajectories[sampled.rows], shown, strict=True)):
            if true is None or true not in relations:
                continue
            kind = PromptKind.POS if trajectory.prompt.triplet.relation == true else PromptKind.NEG
            labelled = LabelledPrompt(
                image_id=trajectory.image_id, split=trajectory.split, kind=kind, prompt=trajectory.prompt, true=true
            )
            records += [MapRecord.of(labelled, step, NO_PSNR) for step in source.steps]
            maps += [recorder.maps[step][row : row + 1].numpy() for step in source.steps]
    return MapShard.joined(records, maps, source)
