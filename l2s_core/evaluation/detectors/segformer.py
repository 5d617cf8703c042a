"""The small world's judge: connected blobs of a semantic segmenter, SegFormer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from l2s_core.backbones.complete import load_complete
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge

MIN_AREA = 0.013  # smallest blob that counts, as a share of the image; chosen on scenes of seed 77
FEATURE_BATCH = 50


class SegformerJudge(Judge):
    """Boxes of each class's blobs by SegFormer (Xie et al. 2021, arXiv 2105.15203); score: mean probability in it."""

    KIND: ClassVar[str] = "SegformerForSemanticSegmentation"
    CRITERIA: ClassVar[tuple[float | str, ...]] = (MIN_AREA,)
    QUICK: ClassVar[bool] = True

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        self.model = load_complete(self.KIND, folder, device)
        self.names = tuple(name for index, name in self.model.config.id2label.items() if index > 0)
        self.device = device

    @torch.no_grad()
    def detect(self, images: np.ndarray, names: Sequence[Sequence[str]] | None = None) -> list[list[Detection]]:
        logits = interpolate(
            self.model(pixel_values=self._pixels(images)).logits, size=images.shape[1:3], mode="bilinear"
        )
        probs = logits.softmax(1).cpu().numpy()
        return [self._blobs(p) for p in probs]

    @property
    def gives_features(self) -> bool:
        return True

    @torch.no_grad()
    def features(self, images: np.ndarray, *, batch: int = FEATURE_BATCH) -> np.ndarray:
        """Return the hidden states of every stage of the encoder, each averaged over the image.

        D is the sum of the stages' widths (224 for mini-seg). All stages, because the early ones see noise and blur
        that the last one is trained to overlook. The average leaves out where things are: moving an object changes
        little. An image's features do not depend on its batch, to rounding. Raises ValueError for anything but such
        images.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
            raise ValueError(f"features are of uint8 images (N, H, W, 3); got {images.dtype} {images.shape}")
        parts = []
        for first in range(0, len(images), batch):
            pixels = self._pixels(np.ascontiguousarray(images[first : first + batch]))
            stages = self.model.segformer(pixel_values=pixels, output_hidden_states=True).hidden_states
            parts.append(torch.cat([hidden.mean((2, 3)) for hidden in stages], 1).double().cpu())  # (B, D)
        return torch.cat(parts).numpy()

    def _pixels(self, images: np.ndarray) -> Tensor:
        return torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2) / 127.5 - 1

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
