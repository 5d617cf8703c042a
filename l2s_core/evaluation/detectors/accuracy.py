"""How good the judge itself is, on rendered scenes it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.miniworld.world.scenes import COUNTS, render, sample_layout
from l2s_core.miniworld.world.streams import Stream, scene_rng
from l2s_core.relations import relations_between

BATCH = 50


@dataclass(frozen=True, kw_only=True)
class JudgeAccuracy:
    """Shares over `scenes` scenes: objects found, false finds, object pairs whose relations are read exactly."""

    scenes: int
    found: float
    false: float
    relations: float


def measure_judge(
    judge: Judge, scenes: int = 200, min_score: float = 0.3, counts: Sequence[float] = COUNTS
) -> JudgeAccuracy:
    """Run the judge on fresh scenes; `counts` are the shares of scenes of one, two, three … objects."""
    rngs = (scene_rng(0, index, Stream.JUDGE_ACCURACY) for index in range(scenes))
    layouts = [sample_layout(rng, counts=counts) for rng in rngs]
    present = hits = finds = pairs = exact = 0
    for first in range(0, scenes, BATCH):
        part = layouts[first : first + BATCH]
        for layout, detections in zip(part, judge.detect(np.stack([render(one) for one in part])), strict=True):
            kept = [d for d in detections if d.score > min_score]
            best = {d.name: d.box for d in reversed(kept)}
            truth = {p.name: p.box for p in layout.placements}
            present += len(truth)
            finds += len(kept)
            hits += len(truth.keys() & best.keys())
            if len(truth) == 2 and truth.keys() <= best.keys():
                (a, box_a), (b, box_b) = truth.items()
                pairs += 1
                exact += relations_between(best[a], best[b]) == relations_between(box_a, box_b)
    return JudgeAccuracy(
        scenes=scenes, found=hits / present, false=(finds - hits) / max(1, finds), relations=exact / max(1, pairs)
    )
