"""Images as vectors, for comparing sets of them: what the small world's judge sees in an image, before it names anything."""

from __future__ import annotations

import numpy as np
import torch

from l2s_core.evaluation.detectors.judge import SegmentationJudge

BATCH = 50


@torch.no_grad()
def segmenter_features(judge: SegmentationJudge, images: np.ndarray, *, batch: int = BATCH) -> np.ndarray:
    """Return features_ND of uint8 images (N, H, W, 3): the hidden states of every stage of the encoder, each averaged over the image.

    D is the sum of the stages' widths (224 for mini-seg), float64. All stages, because the early ones see noise and blur that
    the last one is trained to overlook. The average leaves out where things are: moving an object changes little.
    An image's features do not depend on its batch, to rounding. Raises ValueError for anything but such images.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"features are of uint8 images (N, H, W, 3); got {images.dtype} {images.shape}")
    parts = []
    for first in range(0, len(images), batch):
        pixels = (
            torch.from_numpy(np.ascontiguousarray(images[first : first + batch])).to(judge.device).permute(0, 3, 1, 2)
            / 127.5
            - 1
        )
        stages = judge.model.segformer(pixel_values=pixels, output_hidden_states=True).hidden_states
        parts.append(torch.cat([hidden.mean((2, 3)) for hidden in stages], 1).double().cpu())  # (B, D)
    return torch.cat(parts).numpy()
