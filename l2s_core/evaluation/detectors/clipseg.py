"""The judge of prompts with several relations: CLIPSeg."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from l2s_core.evaluation.detectors.boxes import MASK_THRESHOLD, mask_detection
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.named import NamedJudge
from l2s_core.evaluation.detectors.pixels import model_pixels

PHRASE = "a {name}"


class ClipSegJudge(NamedJudge):
    """At most one box a name, of the largest blob of CLIPSeg's mask (Lüddecke and Ecker 2022, arXiv 2112.10003).

    The judge of Yiflach et al. (arXiv 2509.02295) for several relations: the sigmoid of the logits, not stretched to
    their range; the rest in `mask_detection`. Every score is above 120/255.
    """

    KIND: ClassVar[str] = "CLIPSegForImageSegmentation"
    MODEL_TYPE: ClassVar[str | None] = "clipseg"
    CRITERIA: ClassVar[tuple[float | str, ...]] = (PHRASE, MASK_THRESHOLD)

    def _find(self, images: np.ndarray, names: tuple[str, ...]) -> list[list[Detection]]:
        pixels = model_pixels(images, self.pixels, self.device)
        found: list[list[Detection]] = [[] for _ in images]
        for name in names:
            tokens = {
                part: value.expand(len(images), -1) for part, value in self._encode([PHRASE.format(name=name)]).items()
            }
            logits = self.model(pixel_values=pixels, **tokens).logits
            for detections, probability_HW in zip(
                found, logits.reshape(len(images), *logits.shape[-2:]).sigmoid().cpu().numpy(), strict=True
            ):
                detection = mask_detection(probability_HW, name, images.shape[1:3])
                if detection is not None:
                    detections.append(detection)
        return [sorted(detections, key=lambda d: -d.score) for detections in found]
