"""Making the benchmark's images, plain or steered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2s_core.backbones.base import Backbone
from l2s_core.diffusion.sampler import Batch, Sampler
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.steering.steering import Steering, SteeringCost
from l2s_core.storage.store import read_shard, write_tensors


@dataclass(frozen=True, kw_only=True)
class SampleShard:
    """Images uint8 (N, H, W, 3) of items, and per image the gradient evaluations, checks and skipped updates.

    `seconds` is the wall time of the whole shard, from noise to pixels. Where each image is the best of several,
    `candidates` is how many there were and `chosen` (N) which one it is, 0 for the plain image. `peak_bytes` is the
    peak of memory meanwhile.
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
    images = []
    costs = []
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
        tensors["chosen"] = shard.chosen
        description["candidates"] = shard.candidates
    write_tensors(path, tensors, description)


def load_samples(path: Path) -> SampleShard:
    """Read a shard; raises UserError when it is missing or damaged."""
    return read_shard(path, _shard)


def _shard(tensors: dict[str, Tensor], description: dict[str, Any]) -> SampleShard:
    stored: dict[str, Any] = {**tensors, **description}
    return SampleShard(**stored)
