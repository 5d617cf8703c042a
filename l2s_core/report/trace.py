"""Watching attention while one image is sampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig
from l2s_core.evaluation.samples import denoise
from l2s_core.prompts.prompt import Phrases
from l2s_core.steering.objectives import ClassifierObjective
from l2s_core.steering.reading import Recorder
from l2s_core.steering.steering import Steering


def trace_attention(
    backbone: Backbone,
    prompt: Phrases,
    seed: int,
    classifier: TrainedClassifier,
    *,
    steps: int,
    guidance: float,
    steering: SteeringConfig | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample one image, steered if `steering` is given; return maps (T, O, G, G) of its phrases and the image (H, W, 3).

    The maps are means over all captured channels at the classifier's steps, taken after steering has
    moved the latents of that step.
    """

    def watched(**batch: Any) -> Recorder:
        steer = None
        if steering is not None:
            objective = ClassifierObjective.of(classifier, confidence=steering.confidence, min_loss=steering.min_loss)
            steer = Steering(objective=objective, config=steering, **batch)
        return Recorder(source=classifier.source, first=steer, dtype=torch.float32, **batch)

    images, recorder = denoise(backbone, [prompt], [seed], steps=steps, guidance=guidance, before_step=watched)
    return np.stack([maps[0].mean(1).numpy() for maps in recorder.maps.values()]), images[0].numpy()
