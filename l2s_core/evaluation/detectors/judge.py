"""Judges that find objects in images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

from l2s_core.backbones.complete import load_complete
from l2s_core.errors import unknown_name
from l2s_core.evaluation.detectors.detection import Detection

MIN_AREA = 0.013  # smallest blob that counts, as a share of the image; chosen on scenes of seed 77


class Judge:
    """A detector: of a closed set of classes, its `names`, or of whatever names it is asked for (`open_vocabulary`).

    `criteria` says what counts as a find, beyond the model's files: numbers and texts.
    """

    kind: str  # the class of its model in transformers
    names: tuple[str, ...] = ()
    open_vocabulary: bool = False
    criteria: tuple[float | str, ...] = (MIN_AREA,)

    def require(self, names: Sequence[str]) -> None:
        """Raise UserError for an object this judge cannot find."""
        for name in names:
            if name not in self.names:
                raise unknown_name("object", name, self.names)

    def detect(self, images: np.ndarray, names: Sequence[Sequence[str]] | None = None) -> list[list[Detection]]:
        """Return the detections of every uint8 image (B, H, W, 3), best score first.

        `names` has the objects to look for, per image. A judge of an open vocabulary needs them, and raises
        UserError without; one of a closed set finds all of its own classes whatever is asked.
        """
        raise NotImplementedError


class SegmentationJudge(Judge):
    """Boxes from a semantic segmenter of transformers: connected blobs of each class."""

    kind = "SegformerForSemanticSegmentation"

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        self.model = load_complete(self.kind, folder, device)
        self.names = tuple(name for index, name in self.model.config.id2label.items() if index > 0)
        self.device = device

    @torch.no_grad()
    def detect(self, images: np.ndarray, names: Sequence[Sequence[str]] | None = None) -> list[list[Detection]]:
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2) / 127.5 - 1
        logits = interpolate(self.model(pixel_values=pixels).logits, size=images.shape[1:3], mode="bilinear")
        probs = logits.softmax(1).cpu().numpy()
        return [self._blobs(p) for p in probs]

    def _blobs(self, probs: np.ndarray) -> list[Detection]:
        classes = probs.argmax(0)
        found = []
        for index in np.unique(classes[classes > 0]):
            blobs, _ = ndimage.label(classes == index)
            for number, window in enumerate(ndimage.find_objects(blobs), start=1):
                mask = blobs == number
                if mask.sum() < MIN_AREA * mask.size:
                    continue
                y, x = window
                box = (x.start, y.start, x.stop, y.stop)
                score = float(probs[index][mask].mean())
                found.append(Detection(name=self.model.config.id2label[int(index)], box=box, score=score))
        return sorted(found, key=lambda d: -d.score)
