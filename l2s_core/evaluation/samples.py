"""Making the benchmark's images, plain or steered, and judging them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2s_core.backbones.base import Backbone
from l2s_core.diffusion.sampler import Batch, Sampler
from l2s_core.evaluation.detectors.judge import Detection, Judge
from l2s_core.evaluation.metrics.colors import ColorReader, seen_colors
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.scoring import Verdict, finds, judge_item
from l2s_core.relations import ATTRIBUTE
from l2s_core.steering.steering import Steering, SteeringCost
from l2s_core.storage.store import read_tensors, write_tensors


@dataclass(frozen=True, kw_only=True)
class SampleShard:
    """Images uint8 (N, H, W, 3) of items, and per image the gradient evaluations, checks and skipped updates.

    `seconds` is the wall time of the whole shard, from noise to pixels. Where each image is the best of several, `candidates`
    is how many there were and `chosen` (N) which one it is, 0 for the plain image. `peak_bytes` is the peak of memory meanwhile.
    """

    item_ids: list[str]
    images: Tensor
    gradients: Tensor
    checks: Tensor
    skipped: Tensor
    seconds: float
    chosen: Tensor | None = None
    candidates: int | None = None
    peak_bytes: int | None = None


def sample_items(
    sampler: Sampler[Backbone],
    items: Sequence[EvalItem],
    steer: Callable[[Batch[Backbone]], Steering] | None = None,
) -> SampleShard:
    """Make the images of `items` in batches, plain, or steered by the observer that `steer` builds for each batch."""
    began = time.perf_counter()
    observe = () if steer is None else (steer,)
    images, costs = [], []
    for sampled in sampler.batches([i.prompt for i in items], [i.seed for i in items], *observe):
        images.append(sampled.images)
        costs += [steering.cost for steering in sampled.observers] or [SteeringCost.zeros(len(sampled.images))]
    seconds = time.perf_counter() - began
    cost = SteeringCost.joined(costs)
    return SampleShard(
        item_ids=[i.item_id for i in items],
        images=torch.cat(images),
        gradients=cost.gradients,
        checks=cost.checks,
        skipped=cost.skipped,
        seconds=seconds,
    )


def save_samples(path: Path, shard: SampleShard) -> None:
    """Write a shard atomically."""
    tensors = {name: getattr(shard, name) for name in ("images", "gradients", "checks", "skipped")}
    description = {"item_ids": shard.item_ids, "seconds": shard.seconds, "peak_bytes": shard.peak_bytes}
    if shard.chosen is not None:
        tensors["chosen"], description["candidates"] = shard.chosen, shard.candidates
    write_tensors(path, tensors, description)


def load_samples(path: Path) -> SampleShard:
    """Read a shard; raises UserError when it is missing or damaged."""
    tensors, description = read_tensors(path)
    return SampleShard(**tensors, **description)


def judge_images(
    judge: Judge, items: Sequence[EvalItem], images: Tensor, min_score: float, reader: ColorReader | None = None
) -> list[tuple[Verdict, list[Detection]]]:
    """Return the verdict on every image (N, H, W, 3) and what the judge found in it; `reader` as in `judge_samples`."""
    pixels, size = images.numpy(), (images.shape[2], images.shape[1])
    found = judge.detect(pixels, [item.objects for item in items])
    colors = seen_colors(reader, items, pixels, found)
    return [(judge_item(item, d, size, min_score, seen), d) for item, d, seen in zip(items, found, colors, strict=True)]


def judge_samples(
    judge: Judge,
    items: Sequence[EvalItem],
    shards: Sequence[SampleShard],
    min_score: float,
    reader: ColorReader | None = None,
) -> list[dict[str, Any]]:
    """Return one JSON-able row per item: what was asked, the verdict with its reason and its boxes, cost, seconds and peak memory.

    `reader` tells the colours of objects; raises UserError for a prompt that asks for one without it.
    """
    by_id = {item.item_id: item for item in items}
    rows = []
    for shard in shards:
        asked = [by_id[item_id] for item_id in shard.item_ids]
        judged = judge_images(judge, asked, shard.images, min_score, reader)
        for i, (item, (verdict, detections)) in enumerate(zip(asked, judged, strict=True)):
            rows.append(
                {
                    "item_id": item.item_id,
                    "prompt_group": item.prompt_group,
                    "prompt": item.prompt.text,
                    "seed": item.seed,
                    "relation": item.asks_for,
                    "relations": [t.relation for t in item.prompt.triplets if t.relation != ATTRIBUTE],
                    "objects": list(item.objects),
                    **asdict(verdict),
                    "detections": [asdict(d) for d in finds(item, detections, min_score)],
                    "gradients": int(shard.gradients[i]),
                    "checks": int(shard.checks[i]),
                    "skipped": int(shard.skipped[i]),
                    "seconds": shard.seconds / len(shard.item_ids),
                    "peak_bytes": shard.peak_bytes,
                }
            )
            if shard.chosen is not None:
                rows[-1] |= {"candidates": shard.candidates, "chosen": int(shard.chosen[i])}
    return rows
