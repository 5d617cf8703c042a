"""Synthetic attention records: blobs whose offset is the relation, so that a right classifier can learn them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from l2s_core.data.scenes import SPLITS, PromptKind
from l2s_core.dataset.schema import MapRecord, MapShard, MapSource
from l2s_core.dataset.writer import write_shard
from l2s_core.relations import ATTRIBUTE, PLANAR

SOURCE = MapSource(backbone="fake", layers=("a",), channels=3, grid=16, steps=(1, 4), schedule_steps=10)
OFFSETS = {"left of": (-4, 0), "right of": (4, 0), "above": (0, -4), "below": (0, 4), ATTRIBUTE: (0, 0)}


def blob_maps(relation: str, rng: np.random.Generator) -> np.ndarray:
    """Maps (2, M, G, G) of a pair in the relation; an attribute's lie where its object's do."""
    y, x = np.mgrid[: SOURCE.grid, : SOURCE.grid]
    dx, dy = OFFSETS[relation]
    maps = np.empty((2, SOURCE.channels, SOURCE.grid, SOURCE.grid))
    centre = 7.5 + rng.uniform(-1, 1, 2)
    for o, sign in enumerate((0.5, -0.5)):
        for m in range(SOURCE.channels):
            blob = np.exp(-((x - centre[0] - sign * dx) ** 2 + (y - centre[1] - sign * dy) ** 2) / 6)
            blob += 0.05 * rng.random(blob.shape)
            maps[o, m] = blob / blob.sum()
    return maps


def write_fake_shards(folder: Path, *, shards: int = 3, images: int = 24, source: MapSource = SOURCE) -> list[Path]:
    """Write shards with two prompt kinds, two steps, all splits, in rotation over the labels of the source."""
    rng = np.random.default_rng(0)
    paths = []
    for shard in range(shards):
        records = []
        maps = []
        for i in range(images):
            true = source.relations[i % len(source.relations)]
            image_id = f"s{shard}-{i:03d}"
            split = SPLITS[0] if i % 6 else SPLITS[1 + i // 6 % 2]
            for kind in PromptKind:
                stated = true if kind is PromptKind.POS else PLANAR[(source.relations.index(true) + 1) % 4]
                for step in source.steps:
                    records.append(
                        MapRecord(
                            image_id=image_id,
                            split=split,
                            prompt=f"a dog {stated} a cat",
                            prompt_kind=kind,
                            stated=(stated,),
                            true=(true,),
                            subject="dog",
                            object="cat",
                            step=step,
                            psnr=30.0,
                        )
                    )
                    maps.append(blob_maps(true, rng))
        paths.append(folder / f"{shard:05d}.parquet")
        shard = MapShard(records=records, maps_NOMGG=np.stack(maps).astype(np.float16), source=source)
        write_shard(paths[-1], shard, "config")
    return paths
