"""Scenes of the small world: 1-5 sprites on a soft background, with exact boxes, masks and relations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from l2s_core.errors import UserError
from l2s_core.miniworld.world.sprites import OBJECTS, object_index, sprite
from l2s_core.relations import PLANAR, label_index, relations_between

SIDE = 64  # image side, pixels
# Longer side of a sprite in pixels, half-open, by object count.
SIZES = {1: (20, 29), 2: (20, 29), 3: (16, 21), 4: (15, 20), 5: (14, 19)}
COUNTS = (0.15, 0.73, 0.12)  # shares of scenes of one, two and three objects
GAPS = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2}  # smallest distance between two boxes in pixels, by object count
MAX_TRIES = 200_000  # five sprites with three relations need 1,300 draws on average


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One sprite: its object index, longer side and top-left corner, in pixels."""

    obj: int
    size: int
    x: int
    y: int

    @property
    def name(self) -> str:
        return OBJECTS[self.obj]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Box (x0, y0, x1, y1) of the sprite's ink, pixels."""
        height, width = sprite(self.obj, self.size).shape[:2]
        return self.x, self.y, self.x + width, self.y + height


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Everything needed to draw a scene; `corners` are the four background colours (2, 2, 3) in [0, 1].

    `size` is that of the scene, (height, width), pixels.
    """

    placements: tuple[Placement, ...]
    corners: tuple
    size: tuple[int, int] = (SIDE, SIDE)

    def relations(self, a: int = 0, b: int = 1) -> frozenset[str]:
        """Relations of placement `a` to placement `b` by GenEval's rule."""
        return relations_between(self.placements[a].box, self.placements[b].box)


def sample_layout(
    rng: np.random.Generator,
    *,
    objects: Sequence[str] | None = None,
    relation: str | None = None,
    counts: Sequence[float] = COUNTS,
    size: tuple[int, int] = (SIDE, SIDE),
    accept: Callable[[Layout], bool] = lambda _: True,
) -> Layout:
    """Draw a random layout.

    `objects` fixes the objects and their order (otherwise 1-5 distinct ones, with probabilities
    `counts`). `relation` asks that it be the *only* relation the first object has to the second, `accept` for
    anything else. `size` is (height, width), pixels. Raises UserError for what cannot be drawn, or is not met in
    MAX_TRIES layouts.
    """
    if objects is None:
        count = int(rng.choice(len(counts), p=counts)) + 1
        indices = [int(i) for i in rng.choice(len(OBJECTS), size=count, replace=False)]
    else:
        indices = [object_index(name) for name in objects]
    if not 1 <= len(indices) <= max(SIZES):
        raise UserError(f"a scene of {len(indices)} objects cannot be drawn; allowed: 1 to {max(SIZES)}")
    if relation is not None:
        label_index(relation, PLANAR)
        if len(indices) < 2:
            raise UserError(f"relation {relation!r} needs two objects; got {len(indices)}")
    corners = rng.uniform(0.3, 0.85, size=(2, 2, 1)) + rng.uniform(-0.12, 0.12, size=(2, 2, 3))
    for _ in range(MAX_TRIES):
        placements = (
            _crowd(rng, indices, size)
            if len(indices) > 3
            else tuple(_place(rng, index, len(indices), size) for index in indices)
        )
        if placements is None or _overlapping(placements):
            continue
        layout = Layout(placements=placements, corners=tuple(map(tuple, corners.reshape(4, 3).tolist())), size=size)
        if (relation is None or layout.relations() == {relation}) and accept(layout):
            return layout
    wanted = "what is asked of them" if relation is None else f"relation {relation!r}"
    raise UserError(f"no room for {[OBJECTS[i] for i in indices]} with {wanted}")


def _place(rng: np.random.Generator, obj: int, count: int, scene: tuple[int, int]) -> Placement:
    size = int(rng.integers(*SIZES[count]))
    height, width = sprite(obj, size).shape[:2]
    x, y = rng.integers(0, (scene[1] - width + 1, scene[0] - height + 1))
    return Placement(obj=obj, size=size, x=int(x), y=int(y))


def _crowd(rng: np.random.Generator, indices: Sequence[int], scene: tuple[int, int]) -> tuple[Placement, ...] | None:
    """Place many sprites one by one, and give up at the first that touches another: most draws of four and five do."""
    placements: list[Placement] = []
    for index in indices:
        placements.append(_place(rng, index, len(indices), scene))
        if _overlapping(placements, GAPS[len(indices)]):
            return None
    return tuple(placements)


def _overlapping(placements: Sequence[Placement], gap: int = GAPS[1]) -> bool:
    boxes = [p.box for p in placements]
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            if a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap:
                return True
    return False


def background(corners: ArrayLike, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Return the bilinear gradient between four corner colours, float32 (H, W, 3) in [0, 1], of a size (H, W)."""
    down, across = (np.stack([1 - ramp, ramp], axis=1) for ramp in map(_ramp, size))  # (H, 2), (W, 2)
    return np.einsum("yi,xj,ijc->yxc", down, across, np.asarray(corners, np.float32).reshape(2, 2, 3))


def _ramp(length: int) -> np.ndarray:
    return np.linspace(0, 1, length, dtype=np.float32)


def render(layout: Layout) -> np.ndarray:
    """Draw the scene: uint8 RGB (H, W, 3)."""
    canvas = background(layout.corners, layout.size)
    for placement in layout.placements:
        rgba = sprite(placement.obj, placement.size)
        x0, y0, x1, y1 = placement.box
        canvas[y0:y1, x0:x1] = canvas[y0:y1, x0:x1] * (1 - rgba[..., 3:]) + rgba[..., :3]
    return np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)


def label_map(layout: Layout) -> np.ndarray:
    """Return the class of every pixel: uint8 (H, W), 0 = background, i + 1 = OBJECTS[i]."""
    labels = np.zeros(layout.size, np.uint8)
    for placement in layout.placements:
        alpha = sprite(placement.obj, placement.size)[..., 3]
        x0, y0, x1, y1 = placement.box
        labels[y0:y1, x0:x1][alpha > 0.5] = placement.obj + 1
    return labels


def to_unit(images: np.ndarray) -> np.ndarray:
    """Map uint8 images (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1], as a diffusion VAE expects."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / 127.5 - 1
