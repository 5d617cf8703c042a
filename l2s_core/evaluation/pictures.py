"""The images that a run's methods left behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from l2s_core.errors import UserError
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.samples import load_samples


def has_images(run: Run, method: str) -> bool:
    """Whether every shard of a method is there."""
    return all(_shard(run, method, name).is_file() for name, _ in run.item_shards())


def method_images(run: Run, method: str, item_ids: Sequence[str] | None = None) -> list[np.ndarray]:
    """Return a method's uint8 images (H, W, 3) of some items, in the order asked for, or of all in the benchmark's.

    The items asked for may be none. One shard is in memory at a time. Raises UserError for an image that is missing.
    """
    wanted = [item.item_id for item in run.items] if item_ids is None else list(item_ids)
    left = set(wanted)
    images: dict[str, np.ndarray] = {}
    for name, items in run.item_shards():
        if left.isdisjoint(item.item_id for item in items):
            continue
        shard = load_samples(_shard(run, method, name))
        images |= {i: image.numpy().copy() for i, image in zip(shard.item_ids, shard.images, strict=True) if i in left}
    missing = [item_id for item_id in wanted if item_id not in images]
    if missing:
        raise UserError(f"{method} has no image of {missing[0]}; run again with --rebuild to make it anew")
    return [images[item_id] for item_id in wanted]


def _shard(run: Run, method: str, name: str) -> Path:
    return run.paths.samples(method) / f"{name}.safetensors"
