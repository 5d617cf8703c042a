"""The small world: rendered scenes, and a closed set of objects whose pairs the classifier meets or not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from l2s_core.data.catalogue import Catalogue, Entry, Fits, Skips
from l2s_core.data.images import square
from l2s_core.data.scenes import SPLITS, Scene
from l2s_core.data.source import Drawable, Pair, Source
from l2s_core.errors import UserError
from l2s_core.hashing import stable_fraction
from l2s_core.miniworld.world.references import can_be_shown, reference_scenes
from l2s_core.miniworld.world.scenes import SIDE, render, sample_layout
from l2s_core.miniworld.world.sprites import OBJECTS, object_index
from l2s_core.miniworld.world.streams import Stream, scene_rng
from l2s_core.prompts.prompt import Phrases
from l2s_core.relations import RELATIONS, Triplet


class Miniworld(Source):
    """Scenes of the small world, rendered; nothing is read."""

    NEEDS_WINDOW: ClassVar[bool] = False
    REFERENCE_SIDE: ClassVar[int | None] = SIDE
    SCOPE: ClassVar[str] = (
        "Everything here ran on a small world: 64-pixel scenes of 16 sprites, and models trained on them. Its captions "
        "name relations seldom and mostly wrongly, which makes the model bad at relations in the way models trained on "
        "crawled captions are. It shows that the method, its leakage argument and this code work end to end; it does "
        "not show figures for Stable Diffusion or FLUX weights."
    )

    source: Literal["miniworld"] = "miniworld"
    held_out_objects: tuple[str, ...] = Field(default=(), description="objects that the classifier never meets")
    held_out_pairs: float = Field(default=0.3, ge=0, lt=1, description="share of the other pairs that it never meets")

    def catalogue(self, fits: Fits) -> Catalogue:
        return Catalogue(entries=[Entry(image_id=name, split=name.partition("-")[0]) for name in self.scene_ids()])

    def load_entries(self, entries: Sequence[Entry], side: int) -> tuple[list[Scene], Skips]:
        scenes = self.make_scenes([entry.image_id for entry in entries])
        return [_resized(scene, side) for scene in scenes], Skips()

    def check(self) -> str:
        return "rendered, nothing to read"

    @property
    def drawable(self) -> Drawable:
        """The sprites; each has one colour, its own."""
        return Drawable(objects=OBJECTS, unseen=self.held_out_objects, attributes=False)

    def pair_groups(self) -> dict[str, list[Pair]]:
        """Split the unordered object pairs into three lists.

        `seen`: pairs the classifier trains on; `unseen`: new pairs of objects it knows; `novel`: pairs of
        two objects that it never meets. Raises UserError for an unknown object, and where no pair is left to train on.
        """
        held_out = set(self.held_out_objects)
        for name in held_out:
            object_index(name)
        known = [name for name in OBJECTS if name not in held_out]
        pairs = list(combinations(known, 2))
        unseen = [p for p in pairs if stable_fraction("pair", self.seed, *p) < self.held_out_pairs]
        seen = [p for p in pairs if p not in unseen]
        if not seen:
            raise UserError("no object pair is left to train on; hold out fewer objects or pairs")
        return {"seen": seen, "unseen": unseen, "novel": list(combinations(sorted(held_out, key=OBJECTS.index), 2))}

    def can_show(self, prompt: Phrases) -> bool:
        return can_be_shown(prompt)

    def references(self, prompts: Sequence[Phrases], count: int, *, first: int = 0) -> np.ndarray:
        return reference_scenes(prompts, count, first=first)

    def scene_ids(self) -> list[str]:
        """Return the ids of all scenes, split by split and balanced over relations: "train-above-00012"."""
        counts = {"train": self.train, "val": self.val, "test": self.test}
        return [
            f"{split}-{relation.replace(' ', '_')}-{i:05d}"
            for split in SPLITS
            for i in range(counts[split])
            for relation in self.relations
        ]

    def make_scenes(self, ids: Sequence[str]) -> list[Scene]:
        """Render the scenes of the given ids; each depends on its id and the seed alone."""
        seen = self.pair_groups()["seen"]
        return [self._scene(image_id, seen) for image_id in ids]

    def _scene(self, image_id: str, seen: Sequence[Pair]) -> Scene:
        split, relation, index = image_id.rsplit("-", 2)
        relation = relation.replace("_", " ")
        number = (SPLITS.index(split) * len(RELATIONS) + RELATIONS.index(relation)) * 1_000_000 + int(index)
        rng = scene_rng(self.seed, number, Stream.DATA)
        pair = seen[int(rng.integers(len(seen)))]
        subject, object_ = pair if rng.random() < 0.5 else pair[::-1]
        layout = sample_layout(rng, objects=(subject, object_), relation=relation)
        triplet = Triplet(subject=subject, relation=relation, object=object_)
        return Scene(image_id=image_id, split=split, image=render(layout), triplet=triplet)


def _resized(scene: Scene, side: int) -> Scene:
    image = square(Image.fromarray(scene.image), side)
    return Scene(image_id=scene.image_id, split=scene.split, image=image, triplet=scene.triplet)
