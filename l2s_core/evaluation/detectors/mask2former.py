"""A judge for photographs: Mask2Former's instances, the detector family of GenEval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from l2s_core.backbones.complete import load_complete
from l2s_core.evaluation.detectors.boxes import box_of
from l2s_core.evaluation.detectors.detection import Box, Detection
from l2s_core.evaluation.detectors.judge import Judge

SIDE = 800  # pixels the image is resized to, as the model was trained
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's pixels, and their standard deviation
DEVIATION = (0.229, 0.224, 0.225)
MIN_SCORE = 0.05  # weaker instances are not even listed
MAX_INSTANCES = 100  # in an image, the most confident ones, as the detector's own evaluation counts
BATCH = 4
# Names under which a model lists classes that COCO's detection task names otherwise.
ALIASES = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}


class Mask2FormerJudge(Judge):
    """Boxes from Mask2Former (Cheng et al. 2022).

    The score is the class probability times the mean mask probability (section 3.3 of MaskFormer). A query that two
    classes are probable for is an instance of each.
    """

    KIND: ClassVar[str] = "Mask2FormerForUniversalSegmentation"
    CRITERIA: ClassVar[tuple[float | str, ...]] = (MIN_SCORE, MAX_INSTANCES, SIDE)

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        self.model = load_complete(self.KIND, folder, device)
        self.labels = {index: ALIASES.get(name, name) for index, name in self.model.config.id2label.items()}
        self.names = tuple(self.labels.values())
        self.device = device

    @torch.no_grad()
    def detect(self, images: np.ndarray, names: Sequence[Sequence[str]] | None = None) -> list[list[Detection]]:
        """Return the detections of every uint8 image (B, H, W, 3), best score first."""
        found: list[list[Detection]] = []
        for first in range(0, len(images), BATCH):
            pixels = torch.from_numpy(images[first : first + BATCH]).to(self.device).permute(0, 3, 1, 2).float() / 255
            pixels = interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", antialias=True)
            mean, deviation = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
            output = self.model(pixel_values=(pixels - mean) / deviation)
            for classes, masks in zip(output.class_queries_logits, output.masks_queries_logits, strict=True):
                found.append(self._instances(classes.softmax(-1)[:, :-1], masks, images.shape[1:3]))
        return found

    @classmethod
    def stated_names(cls, settings: Mapping[str, Any]) -> list[str]:
        return [ALIASES.get(name, name) for name in super().stated_names(settings)]

    def _instances(self, classes_QC: Tensor, masks_QHW: Tensor, size: tuple[int, int]) -> list[Detection]:
        score_N, place_N = classes_QC.flatten().topk(min(MAX_INSTANCES, classes_QC.numel()))
        listed = [
            (score, *divmod(place, classes_QC.shape[1]))
            for score, place in zip(score_N.tolist(), place_N.tolist(), strict=True)
            if score > MIN_SCORE
        ]
        masks = {query: _mask(masks_QHW[query], size) for query in {query for _, query, _ in listed}}
        found = []
        for score, query, index in listed:
            mask = masks[query]
            if mask is not None:
                box, inside = mask
                found.append(Detection(name=self.labels[index], box=box, score=score * inside))
        return sorted(found, key=lambda d: -d.score)


def _mask(mask_HW: Tensor, size: tuple[int, int]) -> tuple[Box, float] | None:
    """The box of a query's mask and its mean probability inside, None for an empty one."""
    probability_HW = interpolate(mask_HW[None, None], size=size, mode="bilinear")[0, 0].sigmoid().cpu().numpy()
    inside_HW = probability_HW > 0.5
    return (box_of(inside_HW), float(probability_HW[inside_HW].mean())) if inside_HW.any() else None
