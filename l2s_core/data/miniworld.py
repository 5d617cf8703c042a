"""Rendered scenes as a data source, and the seen / unseen partition of their object pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from l2s_core.config import DataConfig
from l2s_core.data.scenes import SPLITS, Scene
from l2s_core.errors import UserError
from l2s_core.hashing import stable_fraction
from l2s_core.miniworld.world.scenes import render, sample_layout
from l2s_core.miniworld.world.sprites import OBJECTS, object_index
from l2s_core.miniworld.world.streams import Stream, scene_rng
from l2s_core.prompts.prompt import Triplet
from l2s_core.relations import RELATIONS

Pair = tuple[str, str]


def partition_pairs(config: DataConfig) -> dict[str, list[Pair]]:
    """Split the unordered object pairs into three lists.

    `seen`: pairs the classifier trains on; `unseen`: new pairs of objects it knows; `novel`: pairs of
    two objects that it never meets.
    """
    held_out = set(config.held_out_objects)
    for name in held_out:
        object_index(name)
    known = [name for name in OBJECTS if name not in held_out]
    pairs = list(combinations(known, 2))
    unseen = [p for p in pairs if stable_fraction("pair", config.seed, *p) < config.held_out_pairs]
    seen = [p for p in pairs if p not in unseen]
    if not seen:
        raise UserError("no object pair is left to train on; hold out fewer objects or pairs")
    return {"seen": seen, "unseen": unseen, "novel": list(combinations(sorted(held_out, key=OBJECTS.index), 2))}


def scene_ids(config: DataConfig) -> list[str]:
    """Return the ids of all scenes, split by split and balanced over relations: "train-above-00012"."""
    counts = {"train": config.train, "val": config.val, "test": config.test}
    return [
        f"{split}-{relation.replace(' ', '_')}-{i:05d}"
        for split in SPLITS
        for i in range(counts[split])
        for relation in config.relations
    ]


def make_scenes(config: DataConfig, ids: Sequence[str]) -> list[Scene]:
    """Render the scenes of the given ids; each depends on its id and the config's seed alone."""
    seen = partition_pairs(config)["seen"]
    scenes = []
    for image_id in ids:
        split, relation, index = image_id.rsplit("-", 2)
        relation = relation.replace("_", " ")
        number = (SPLITS.index(split) * len(RELATIONS) + RELATIONS.index(relation)) * 1_000_000 + int(index)
        rng = scene_rng(config.seed, number, Stream.DATA)
        pair = seen[rng.integers(len(seen))]
        subject, object_ = pair if rng.random() < 0.5 else pair[::-1]
        layout = sample_layout(rng, objects=(subject, object_), relation=relation)
        triplet = Triplet(subject=subject, relation=relation, object=object_)
        scenes.append(Scene(image_id=image_id, split=split, image=render(layout), triplet=triplet))
    return scenes
