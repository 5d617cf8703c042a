"""Judging images: what a judge finds in them, and what the protocol makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from l2s_core.evaluation.detectors.depth import DepthReader
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.metrics.colors import ColorReader, seen_colors
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import Protocol
from l2s_core.evaluation.protocols.verdict import Verdict
from l2s_core.evaluation.samples import SampleShard


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What it takes to judge images: a protocol, a judge that finds objects, and what tells their colours and depth.

    Without `colors` or `depth`, a prompt that asks for one raises UserError.
    """

    protocol: Protocol
    judge: Judge
    colors: ColorReader | None = None
    depth: DepthReader | None = None

    def verdicts(self, items: Sequence[EvalItem], images: Tensor) -> list[tuple[Verdict, list[Detection]]]:
        """Return the verdict on every uint8 image (N, H, W, 3), and all that the judge found in it."""
        pixels = images.numpy()
        size = (images.shape[2], images.shape[1])
        found = self.judge.detect(pixels, [item.objects for item in items])
        asked = [self.protocol.colored_boxes(item, one) for item, one in zip(items, found, strict=True)]
        colors = seen_colors(self.colors, [item.prompt.text for item in items], pixels, asked)
        placed = found if self.depth is None else self.depth.place(pixels, found)
        return [
            (self.protocol.verdict(item, where, size, seen), detections)
            for item, detections, where, seen in zip(items, found, placed, colors, strict=True)
        ]

    def judge_images(self, items: Sequence[EvalItem], images: Tensor) -> list[JudgedImage]:
        """Return every image (N, H, W, 3) judged, without what it cost."""
        return [
            JudgedImage(
                item_id=item.item_id,
                prompt_group=item.prompt_group,
                prompt=item.prompt.text,
                seed=item.seed,
                asks_for=item.asks_for,
                objects=tuple(item.objects),
                verdict=verdict,
                detections=tuple(self.protocol.finds(item, detections)),
            )
            for item, (verdict, detections) in zip(items, self.verdicts(items, images), strict=True)
        ]

    def judge_samples(self, items: Sequence[EvalItem], shards: Sequence[SampleShard]) -> list[JudgedImage]:
        """Return the images of shards judged, with what each cost; the seconds of a shard are shared by its images."""
        by_id = {item.item_id: item for item in items}
        judged = []
        for shard in shards:
            asked = [by_id[item_id] for item_id in shard.item_ids]
            for i, image in enumerate(self.judge_images(asked, shard.images)):
                judged.append(
                    replace(
                        image,
                        gradients=int(shard.gradients[i]),
                        checks=int(shard.checks[i]),
                        skipped=int(shard.skipped[i]),
                        seconds=shard.seconds / len(shard.item_ids),
                        peak_bytes=shard.peak_bytes,
                        candidates=shard.candidates,
                        chosen=None if shard.chosen is None else int(shard.chosen[i]),
                    )
                )
        return judged
