"""One prompt, several seeds: plain beside steered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from PIL import Image

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import RunConfig
from l2s_core.evaluation.detectors import Judge
from l2s_core.evaluation.samples import make_images
from l2s_core.evaluation.scoring import judge_relations
from l2s_core.prompts import Phrases, depicted
from l2s_core.report.grids import comparison_grid


def compare(
    backbone: Backbone, classifier: TrainedClassifier, judge: Judge, prompt: Phrases, seeds: Sequence[int], config: RunConfig
) -> tuple[Image.Image, dict[str, int]]:
    """Return the picture of all seeds, plain and steered from the same noise, and how many of each are correct.

    Right means the objects and their places; attributes are steered, and not judged.
    """
    columns, verdicts = {}, {}
    for way, how in (("plain", {}), ("steered", {"classifier": classifier, "steering": config.steering})):
        images, _ = make_images(
            backbone, [prompt] * len(seeds), seeds, steps=config.backbone.steps, guidance=config.backbone.guidance, **how
        )
        found = judge.detect(images.numpy(), [depicted(prompt)] * len(seeds))
        columns[way] = list(images.numpy())
        verdicts[way] = [
            {
                "prompt": prompt.text, "objects": depicted(prompt), "detections": [asdict(d) for d in detections if d.score > config.benchmark.min_score],
                **asdict(judge_relations(prompt, detections, config.benchmark.min_score)),
            }
            for detections in found
        ]  # fmt: skip
    return comparison_grid(columns, verdicts), {way: sum(v["correct"] for v in rows) for way, rows in verdicts.items()}
