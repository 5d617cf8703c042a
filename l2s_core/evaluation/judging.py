"""Judging images: what a judge finds in them, and what the protocol makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.metrics.colors import ColorReader, seen_colors
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import Protocol
from l2s_core.evaluation.protocols.verdict import Verdict
from l2s_core.evaluation.samples import SampleShard
from l2s_core.relations import ATTRIBUTE


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What it takes to judge images: a protocol, a judge that finds objects, and `colors`, which tells their colours.

    Without `colors`, a prompt that asks for one raises UserError.
    """

    protocol: Protocol
    judge: Judge
    colors: ColorReader | None = None

    def judge_images(self, items: Sequence[EvalItem], images: Tensor) -> list[tuple[Verdict, list[Detection]]]:
        """Return the verdict on every uint8 image (N, H, W, 3), and what the judge found in it."""
        pixels = images.numpy()
        size = (images.shape[2], images.shape[1])
        found = self.judge.detect(pixels, [item.objects for item in items])
        asked = [self.protocol.colored_boxes(item, one) for item, one in zip(items, found, strict=True)]
        colors = seen_colors(self.colors, [item.prompt.text for item in items], pixels, asked)
        return [
            (self.protocol.verdict(item, detections, size, seen), detections)
            for item, detections, seen in zip(items, found, colors, strict=True)
        ]

    def judge_samples(self, items: Sequence[EvalItem], shards: Sequence[SampleShard]) -> list[dict[str, Any]]:
        """Return one JSON-able row per item: what was asked, the verdict with its boxes, cost, seconds and peak memory."""
        by_id = {item.item_id: item for item in items}
        rows = []
        for shard in shards:
            asked = [by_id[item_id] for item_id in shard.item_ids]
            judged = self.judge_images(asked, shard.images)
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
                        "correct": verdict.correct,
                        "both": verdict.all_found,
                        "reason": verdict.reason,
                        "score": verdict.score,
                        "pairs": [relation.holds for relation in verdict.relations],
                        "detections": [asdict(d) for d in self.protocol.finds(item, detections)],
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
