"""The small world: rendered scenes, and a closed set of objects whose pairs the classifier meets or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from l2s_core.data.catalogue import Catalogue, Entry, Fits, Skips
from l2s_core.data.images import cropped
from l2s_core.data.scenes import SPLITS, Scene
from l2s_core.data.source import Drawable, Pair, Source
from l2s_core.errors import UserError
from l2s_core.hashing import stable_fraction
from l2s_core.miniworld.world.references import can_be_shown, reference_scenes
from l2s_core.miniworld.world.scenes import MAX_TRIES, SIDE, Layout, render, sample_layout
from l2s_core.miniworld.world.sprites import OBJECTS, object_index
from l2s_core.miniworld.world.streams import Stream, scene_rng
from l2s_core.prompts.chains import chains_of, links
from l2s_core.prompts.prompt import Phrases
from l2s_core.relations import PLANAR, Triplet
from l2s_core.sizes import SQUARE, Size, sides

SUM_ERROR = 1e-6  # by which shares may miss 1


class Miniworld(Source):
    """Scenes of the small world, rendered; nothing is read.

    A scene of two objects shows one pair. Of three to five objects, prompts relate two or three pairs, chained as in
    the benchmark of several relations (`prompts/chains.py`): every pair is one that the classifier may meet, and shows
    one relation. With `diagonals` that share of the scenes shows two relations of its first pair, and the other pairs
    show one or two, as they come.
    """

    OPTIONAL: ClassVar[tuple[str, ...]] = (*Source.OPTIONAL, "counts", "diagonals")
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
    counts: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(1.0,), min_length=1, max_length=4, description="shares of scenes of two, three, four and five objects"
    )
    diagonals: float = Field(
        default=0.0, ge=0, le=1, description="share of scenes whose first pair shows two relations"
    )

    @model_validator(mode="after")
    def _counts_and_diagonals(self) -> Miniworld:
        if abs(sum(self.counts) - 1) > SUM_ERROR:
            raise ValueError(f"counts are shares of all scenes; they come to {sum(self.counts):g} and must come to 1")
        unknown = [name for name in self.relations if name not in PLANAR]
        if unknown:
            raise ValueError(
                f"relations has {unknown[0]}, and scenes of the small world are flat; allowed: {', '.join(PLANAR)}"
            )
        if self.diagonals and set(self.relations) != set(PLANAR):
            raise ValueError("diagonals show two of all four relations; leave data.relations out, or diagonals at 0")
        return self

    @property
    def states_diagonals(self) -> bool:
        return self.diagonals > 0

    @property
    def pairs_a_scene(self) -> float:
        mean = 0.0
        for count, share in enumerate(self.counts, start=2):
            forms = chains_of(count)
            mean += share * sum(len(links(lengths)) for lengths in forms) / len(forms)
        return mean

    def catalogue(self, fits: Fits) -> Catalogue:
        return Catalogue(entries=[Entry(image_id=name, split=name.partition("-")[0]) for name in self.scene_ids()])

    def load_entries(self, entries: Sequence[Entry], size: Size) -> tuple[list[Scene], Skips]:
        """Return scenes that are drawn in the proportions of `size` and then resized."""
        scenes = self.make_scenes([entry.image_id for entry in entries], size)
        return [_resized(scene, size) for scene in scenes], Skips()

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

    def make_scenes(self, ids: Sequence[str], shape: Size = SQUARE) -> list[Scene]:
        """Render the scenes of the given ids; each depends on its id, the seed and its shape alone.

        The shorter side has 64 pixels, the longer one as many as the proportions of `shape` make of them.
        """
        seen = self.pair_groups()["seen"]
        size = _drawn_size(shape)
        return [self._scene(image_id, seen, size) for image_id in ids]

    def _scene(self, image_id: str, seen: Sequence[Pair], size: tuple[int, int]) -> Scene:
        split, relation, index = image_id.rsplit("-", 2)
        relation = relation.replace("_", " ")
        number = (SPLITS.index(split) * len(PLANAR) + PLANAR.index(relation)) * 1_000_000 + int(index)
        rng = scene_rng(self.seed, number, Stream.DATA)
        count = self._count(image_id)
        if count > 2 or self.diagonals:
            chains = self._objects(rng, image_id, count, seen)
            return self._scene_of_chains(image_id, split, relation, chains, rng, size)
        pair = seen[int(rng.integers(len(seen)))]
        subject, object_ = pair if rng.random() < 0.5 else pair[::-1]
        layout = sample_layout(rng, objects=(subject, object_), relation=relation, size=size)
        triplet = Triplet(subject=subject, relation=relation, object=object_)
        return Scene(image_id=image_id, split=split, image=render(layout), triplet=triplet)

    def _count(self, image_id: str) -> int:
        """The number of objects of a scene, by a hash of its id."""
        draw = stable_fraction("objects", self.seed, image_id)
        for count, share in enumerate(self.counts, start=2):
            draw -= share
            if draw < 0:
                return count
        return max(count for count, share in enumerate(self.counts, start=2) if share)

    def _objects(
        self, rng: np.random.Generator, image_id: str, count: int, seen: Sequence[Pair]
    ) -> list[tuple[str, ...]]:
        """Draw the objects of a scene, chain by chain; every link is a pair that the classifier may meet."""
        forms = chains_of(count)
        lengths = forms[int(stable_fraction("form", self.seed, image_id) * len(forms))]
        known = sorted({name for pair in seen for name in pair}, key=OBJECTS.index)
        allowed = {frozenset(pair) for pair in seen}
        for _ in range(MAX_TRIES):
            drawn = iter([known[i] for i in rng.permutation(len(known))[:count]])
            chains = [tuple(next(drawn) for _ in range(length)) for length in lengths if length <= len(known)]
            if all(frozenset(pair) in allowed for chain in chains for pair in pairwise(chain)):
                return chains
        raise UserError(
            f"no {count} objects can be chained by pairs that the classifier may meet; hold out fewer objects or "
            f"pairs, or give data.counts no share of {count}"
        )

    def _scene_of_chains(
        self,
        image_id: str,
        split: str,
        relation: str,
        chains: Sequence[tuple[str, ...]],
        rng: np.random.Generator,
        size: tuple[int, int],
    ) -> Scene:
        objects = [name for chain in chains for name in chain]
        pairs = links([len(chain) for chain in chains])
        most = 2 if self.diagonals else 1
        first = 2 if stable_fraction("diagonal", self.seed, image_id) < self.diagonals else 1

        def shows(layout: Layout) -> bool:
            held = [layout.relations(*pair) for pair in pairs]
            return (
                len(held[0]) == first
                and relation in held[0]
                and all(1 <= len(found) <= most and found <= set(self.relations) for found in held)
            )

        layout = sample_layout(rng, objects=objects, accept=shows, size=size)
        triplet = Triplet(subject=objects[0], relation=relation, object=objects[1])
        true = [
            Triplet(subject=objects[a], relation=name, object=objects[b])
            for a, b in pairs
            for name in PLANAR
            if name in layout.relations(a, b)
        ]
        also = tuple(other for other in true if other != triplet)
        return Scene(image_id=image_id, split=split, image=render(layout), triplet=triplet, also=also)


def _drawn_size(shape: Size) -> tuple[int, int]:
    height, width = sides(shape)
    short = min(height, width)
    return round(SIDE * height / short), round(SIDE * width / short)


def _resized(scene: Scene, size: Size) -> Scene:
    return replace(scene, image=cropped(Image.fromarray(scene.image), sides(size)))
