"""Making the benchmark's images, plain or steered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig
from l2s_core.diffusion.sampling import Observer, initial_noise, sample
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.prompts.prompt import Phrases
from l2s_core.steering.objectives import ClassifierObjective, Objective
from l2s_core.steering.steering import Steering, SteeringCost
from l2s_core.steering.targets import Targets
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


def make_images(
    backbone: Backbone,
    prompts: Sequence[Phrases],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    classifier: TrainedClassifier | None = None,
    objective: Objective | None = None,
    steering: SteeringConfig | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sample one image per (prompt, seed), steered when a classifier or another objective is given.

    Returns uint8 images (N, H, W, 3) and the cost per image. An image depends on its own prompt and
    seed alone, to rounding: batch mates only change the order of floating-point sums.
    """
    if classifier is not None:
        if objective is not None:
            raise ValueError("steering follows one objective; give an objective, or a classifier")
        objective = ClassifierObjective.of(classifier, confidence=steering.confidence, min_loss=steering.min_loss)
    steer = None if objective is None else partial(Steering, objective=objective, config=steering)
    images, steered = denoise(backbone, prompts, seeds, steps=steps, guidance=guidance, before_step=steer)
    return images, dict(vars(SteeringCost.zeros(len(prompts)) if steered is None else steered.cost))


def denoise(
    backbone: Backbone,
    prompts: Sequence[Phrases],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    before_step: Callable[..., Observer] | None = None,
) -> tuple[Tensor, Any]:
    """Sample one image per (prompt, seed); return uint8 images (N, H, W, 3) and what `before_step` built, None without it.

    `before_step` builds the callable of the sampling loop from the batch: its backbone, condition, weights_BOK, targets
    and timesteps.
    """
    schedule = backbone.schedule(steps)
    condition = backbone.encode_prompts([p.text for p in prompts], guidance=guidance)
    latents = initial_noise(list(seeds), backbone.latent_shape, backbone.device)
    before = None
    if before_step is not None:
        before = before_step(
            backbone=backbone,
            condition=condition,
            weights_BOK=backbone.phrase_weights(list(prompts)),
            targets=Targets.of(prompts, backbone.device),
            timesteps=schedule.timesteps,
        )
    return torch.from_numpy(
        backbone.decode(sample(backbone, latents, condition, schedule, () if before is None else (before,)))
    ), before


def sample_items(backbone: Backbone, items: Sequence[EvalItem], *, batch: int, **how: Any) -> SampleShard:
    """Make the images of `items` in batches; `how` goes to `make_images`."""
    began, parts = time.perf_counter(), []
    for first in range(0, len(items), batch):
        part = items[first : first + batch]
        parts.append(make_images(backbone, [i.prompt for i in part], [i.seed for i in part], **how))
    seconds = time.perf_counter() - began
    cost = {name: torch.cat([c[name] for _, c in parts]) for name in parts[0][1]}
    return SampleShard(
        item_ids=[i.item_id for i in items], images=torch.cat([p for p, _ in parts]), seconds=seconds, **cost
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
