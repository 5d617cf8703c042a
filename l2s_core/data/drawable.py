"""What the models that belong to a source of scenes can draw."""

from __future__ import annotations

from dataclasses import dataclass

from l2s_core.config import DataConfig
from l2s_core.miniworld.world.sprites import OBJECTS


@dataclass(frozen=True, kw_only=True)
class Drawable:
    """What a prompt may name: one of `objects` (None: anything), `unseen` by the classifier or not.

    `attributes` says whether a prompt may ask for them: a thing of the small world has one colour, its own.
    """

    objects: tuple[str, ...] | None = None
    unseen: tuple[str, ...] = ()
    attributes: bool = True


def drawable_of(config: DataConfig) -> Drawable:
    """Return what can be drawn where scenes come from this source."""
    if config.source == "miniworld":
        return Drawable(objects=OBJECTS, unseen=config.held_out_objects, attributes=False)
    return Drawable()
