"""A judge of an open vocabulary: OWLv2."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from l2s_core.evaluation.detectors.boxes import best_named, pixel_boxes
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.named import NamedJudge
from l2s_core.evaluation.detectors.pixels import model_pixels

PHRASE = "a photo of a {name}"
MIN_SCORE = 0.05  # weaker boxes are not even listed; 0.1 is the library's threshold


class Owlv2Judge(NamedJudge):
    """Boxes from OWLv2 (Minderer et al. 2023, arXiv 2306.09683): score = the sigmoid of the best name's logit.

    Its scores are lower than a closed-set detector's. Overlapping boxes of one object stay, so boxes are no counts.
    """

    KIND: ClassVar[str] = "Owlv2ForObjectDetection"
    MODEL_TYPE: ClassVar[str | None] = "owlv2"
    CRITERIA: ClassVar[tuple[float | str, ...]] = (PHRASE, MIN_SCORE)

    def _find(self, images: np.ndarray, names: tuple[str, ...]) -> list[list[Detection]]:
        tokens = {
            name: value.repeat(len(images), 1)
            for name, value in self._encode([PHRASE.format(name=n) for n in names]).items()
        }
        output = self.model(pixel_values=model_pixels(images, self.pixels, self.device, square=True), **tokens)
        size = images.shape[1:3]
        return [
            best_named(scores_QN, pixel_boxes(boxes_Q4, frame=(max(size), max(size)), size=size), names, MIN_SCORE)
            for scores_QN, boxes_Q4 in zip(output.logits.sigmoid(), output.pred_boxes, strict=True)
        ]
