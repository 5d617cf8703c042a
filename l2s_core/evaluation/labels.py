"""What a judge says is true in an image: the labels of maps of the backbone's own sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.protocols.classes import geneval_name
from l2s_core.evaluation.protocols.relation_rule import kept_boxes
from l2s_core.prompts.pairs import related_pairs
from l2s_core.prompts.prompt import Phrases
from l2s_core.relations import relations_between


@dataclass(frozen=True, kw_only=True)
class ShownRelations:
    """Labels every pair that a prompt relates with what holds, by GenEval's rule, between the judge's best boxes."""

    judge: Judge
    min_score: float

    def __call__(self, prompts: Sequence[Phrases], images: np.ndarray) -> list[list[frozenset[str]]]:
        """Return the relations of each pair of each prompt in images (B, H, W, 3)."""
        found = self.judge.detect(images, [prompt.objects for prompt in prompts])
        return [shown_relations(*pair, self.min_score) for pair in zip(prompts, found, strict=True)]


def shown_relations(prompt: Phrases, detections: Sequence[Detection], min_score: float) -> list[frozenset[str]]:
    """Return what holds of every pair that a prompt relates, in its order; nothing of one that lacks an object."""
    boxes = kept_boxes(detections, min_score)
    shown = []
    for pair in related_pairs(prompt):
        names = [geneval_name(name) for name in (pair.subject, pair.object)]
        there = all(name in boxes for name in names)
        shown.append(relations_between(*(boxes[name][0] for name in names)) if there else frozenset())
    return shown
