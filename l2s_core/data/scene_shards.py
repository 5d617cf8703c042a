"""Shards of scenes on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2s_core.data.scenes import Scene
from l2s_core.relations import Triplet
from l2s_core.sizes import Size, sides
from l2s_core.storage.store import read_description, read_shard, write_tensors


def save_scenes(
    path: Path, scenes: Sequence[Scene], size: Size, skipped: Mapping[str, int] | None = None, named: Sequence[str] = ()
) -> None:
    """Write a shard of scenes of one image size, and what was skipped on the way."""
    images = torch.from_numpy(
        np.stack([scene.image for scene in scenes]) if scenes else np.empty((0, *sides(size), 3), np.uint8)
    )
    records = [_record(scene) for scene in scenes]
    write_tensors(path, {"images": images}, {"scenes": records, "skipped": dict(skipped or {}), "named": list(named)})


def _record(scene: Scene) -> dict[str, Any]:
    """What is stored of a scene beside its image; `also` is left out where it is empty."""
    also = {"also": [asdict(triplet) for triplet in scene.also]} if scene.also else {}
    return {"image_id": scene.image_id, "split": scene.split, "triplet": asdict(scene.triplet), **also}


def load_scenes(path: Path) -> list[Scene]:
    """Read a shard of scenes; raises UserError when it is missing or damaged."""
    return read_shard(path, _scenes)


def load_triplets(path: Path) -> list[Triplet]:
    """Read what is true in a shard's scenes, and none of their images."""
    return read_description(path, lambda stored: [Triplet(**record["triplet"]) for record in stored["scenes"]])


def load_skipped(path: Path) -> tuple[dict[str, int], list[str]]:
    """Read what a shard of scenes had to skip: counts by reason, and names."""
    return read_description(path, lambda stored: (stored["skipped"], stored["named"]))


def _scenes(tensors: dict[str, Tensor], stored: dict[str, Any]) -> list[Scene]:
    return [
        Scene(
            image_id=r["image_id"],
            split=r["split"],
            image=image,
            triplet=Triplet(**r["triplet"]),
            also=tuple(Triplet(**triplet) for triplet in r.get("also", ())),
        )
        for r, image in zip(stored["scenes"], tensors["images"].numpy(), strict=True)
    ]
