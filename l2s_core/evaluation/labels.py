"""What a judge says is true in an image: the labels of maps of the backbone's own sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.protocols.classes import geneval_name
from l2s_core.evaluation.protocols.relation_rule import kept_boxes
from l2s_core.prompts.prompt import Prompt
from l2s_core.relations import relations_between


@dataclass(frozen=True, kw_only=True)
class ShownRelation:
    """Labels images with the one relation that holds, by GenEval's rule, between the judge's best boxes."""

    judge: Judge
    min_score: float

    def __call__(self, prompts: Sequence[Prompt], images: np.ndarray) -> list[str | None]:
        """Return the relation of each prompt's subject to its object in images (B, H, W, 3); None for none, or two."""
        found = self.judge.detect(images, [prompt.objects for prompt in prompts])
        return [shown_relation(*pair, self.min_score) for pair in zip(prompts, found, strict=True)]


def shown_relation(prompt: Prompt, detections: Sequence[Detection], min_score: float) -> str | None:
    """Return the one relation of the prompt's subject to its object in an image; None where there is none, or two."""
    boxes = kept_boxes(detections, min_score)
    names = [geneval_name(name) for name in prompt.objects]
    if any(name not in boxes for name in names):
        return None
    held = relations_between(*(boxes[name][0] for name in names))
    return next(iter(held)) if len(held) == 1 else None
