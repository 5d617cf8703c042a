"""The best of n plain images: the method that spends its time on more noise, and on nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial

import torch
from torch import Tensor

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.diffusion.sampler import Batch, Sampler
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.judging import Judging
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import Protocol
from l2s_core.evaluation.protocols.verdict import Verdict
from l2s_core.evaluation.samples import SampleShard
from l2s_core.hashing import stable_fraction
from l2s_core.steering.objectives import ClassifierObjective, Objective
from l2s_core.steering.reading import ObjectiveReader
from l2s_core.steering.targets import Targets

SEED_RANGE = 2**32
"""torch's generator on the CPU uses these bits of a seed alone: seeds that share them share their noise."""

Score = tuple[float, ...]
"""What candidates are compared by: the first number first, larger is better."""


def equal_time_n(plain_seconds: float, steered_seconds: float) -> int:
    """Return how many plain images take the time of one steered image: the next whole number.

    What choosing among them costs is not counted; both are in the method's favour. Raises ValueError for times that are
    none.
    """
    if not (0 < plain_seconds < math.inf and 0 < steered_seconds < math.inf):
        raise ValueError(
            f"seconds an image must be positive numbers; got {plain_seconds} plain and {steered_seconds} steered"
        )
    return math.ceil(steered_seconds / plain_seconds)


def candidate_seeds(seed: int, n: int, taken: Collection[int]) -> list[int]:
    """Return n seeds of one item: its own, then hashes of it.

    None has the noise of a `taken` seed, or of another candidate.
    """
    words = {other % SEED_RANGE for other in (seed, *taken)}
    seeds = [seed]
    number = 0
    while len(seeds) < n:
        number += 1
        candidate = int(stable_fraction("candidate", seed, number) * SEED_RANGE)
        if candidate not in words:
            words.add(candidate)
            seeds.append(candidate)
    return seeds


@dataclass
class Watch:
    """An observer that leaves the latents alone and reads an objective at every captured step, without a gradient."""

    batch: Batch[Backbone]
    _: KW_ONLY
    objective: Objective
    reads: int = 0

    def __post_init__(self) -> None:
        device = self.batch.backbone.device
        self.targets = Targets.of(self.batch.prompts, device)
        self.objective.require_known(self.targets)
        self.reader = ObjectiveReader(self.batch, objective=self.objective)
        self.total_B = torch.zeros(len(self.batch), device=device)

    @torch.no_grad()
    def __call__(self, latents: Tensor, step: int) -> Tensor:
        if step in self.objective.source.steps:
            everyone = torch.arange(len(latents), device=latents.device)
            self.total_B += self.targets.total(self.reader.loss(latents, everyone, step, self.targets), len(latents))
            self.reads += 1
        return latents

    def scores(self) -> list[Score]:
        """Return minus the mean loss of every image, summed over its relations.

        One that is not a number is worse than any other.
        """
        return [(-loss if loss == loss else -math.inf,) for loss in (self.total_B / self.reads).tolist()]


class Chooser:
    """Scores candidate images; `observe` builds what it wants to see of their sampling (see `Sampler`)."""

    observe: tuple[Callable[[Batch[Backbone]], Watch], ...] = ()

    def scores(self, items: Sequence[EvalItem], images: Tensor, watch: Watch | None) -> list[Score]:
        """Return a score an image (N, H, W, 3)."""
        raise NotImplementedError


class ClassifierChooser(Chooser):
    """By the mean log-probability of the wanted relation over the captured steps: knows nothing of the judge."""

    def __init__(self, classifier: TrainedClassifier) -> None:
        self.observe = (partial(Watch, objective=ClassifierObjective.of(classifier)),)

    def scores(self, items: Sequence[EvalItem], images: Tensor, watch: Watch | None) -> list[Score]:
        if watch is None:
            raise ValueError("a classifier chooses by what its observer read while sampling, and there is none")
        return watch.scores()


class JudgeChooser(Chooser):
    """By the judge that will judge the choice: what a perfect chooser could reach, not a method."""

    def __init__(self, judging: Judging) -> None:
        self.judging = judging

    def scores(self, items: Sequence[EvalItem], images: Tensor, watch: Watch | None) -> list[Score]:
        judged = self.judging.verdicts(items, images)
        return [
            judge_score(self.judging.protocol, item, verdict, detections)
            for item, (verdict, detections) in zip(items, judged, strict=True)
        ]


def judge_score(protocol: Protocol, item: EvalItem, verdict: Verdict, detections: Sequence[Detection]) -> Score:
    """Return (the protocol's score, all objects found, the lowest of their best confidences)."""
    best = []
    for name in item.objects:
        wanted = protocol.class_of(name)
        best.append(max((d.score for d in detections if protocol.class_of(d.name) == wanted), default=0.0))
    return float(verdict.correct if verdict.score is None else verdict.score), float(verdict.all_found), min(best)


def select_items(
    sampler: Sampler[Backbone],
    items: Sequence[EvalItem],
    chooser: Chooser,
    *,
    n: int,
    taken: Collection[int] = (),
) -> SampleShard:
    """Make n plain images of every item and keep the best one; the first is the item's plain image, and wins a tie.

    `taken` are the seeds of the whole suite. `checks` counts the passes that chose; `seconds` includes all n images and
    the choice. One batch of candidates is in memory at a time, beside the best so far.
    """
    began = time.perf_counter()
    taken = [*taken, *(item.seed for item in items)]
    parts = []
    for first in range(0, len(items), sampler.batch):
        part = items[first : first + sampler.batch]
        seeds = [candidate_seeds(item.seed, n, taken) for item in part]
        parts.append(_best_of(sampler, part, seeds, chooser))
    images, chosen, checks = (torch.cat(column) for column in zip(*parts, strict=True))
    nothing = torch.zeros(len(items), dtype=torch.long)
    return SampleShard(
        item_ids=[i.item_id for i in items],
        images=images,
        gradients=nothing,
        checks=checks,
        skipped=nothing.clone(),
        seconds=time.perf_counter() - began,
        chosen=chosen,
        candidates=n,
    )


def _best_of(
    sampler: Sampler[Backbone], items: Sequence[EvalItem], seeds: Sequence[Sequence[int]], chooser: Chooser
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best images of a batch, which candidates they are, and the passes spent on choosing."""
    best: list[Score] = [()] * len(items)
    images: Tensor | None = None
    chosen = torch.zeros(len(items), dtype=torch.long)
    checks = torch.zeros_like(chosen)
    for number, round_seeds in enumerate(zip(*seeds, strict=True)):
        sampled = sampler([i.prompt for i in items], round_seeds, *chooser.observe)
        candidates = sampled.images
        watch = next(iter(sampled.observers), None)
        scores = chooser.scores(items, candidates, watch)
        better = torch.tensor([score > last for score, last in zip(scores, best, strict=True)])  # any score beats none
        images = candidates if images is None else torch.where(better.view(-1, 1, 1, 1), candidates, images)
        best = [max(pair) for pair in zip(best, scores, strict=True)]
        chosen[better] = number
        checks += watch.reads if watch is not None else 0
    if images is None:
        raise ValueError("the best of no candidates")
    return images, chosen, checks
