"""Watching attention while one image is sampled."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig
from l2s_core.dataset.recorder import Recorder
from l2s_core.diffusion.sampler import Sampler
from l2s_core.prompts.prompt import Phrases
from l2s_core.steering.steering import steer_by


def trace_attention(
    sampler: Sampler[Backbone],
    prompt: Phrases,
    seed: int,
    classifier: TrainedClassifier,
    steering: SteeringConfig | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample one image, steered if `steering` is given; return maps of its phrases and the image.

    The maps have the shape (T, O, G, G), the image (H, W, 3).

    The maps are means over all captured channels at the classifier's steps, taken after steering has
    moved the latents of that step.
    """
    steer = () if steering is None else (steer_by(classifier, steering),)
    record = partial(Recorder, source=classifier.source, dtype=torch.float32)
    sampled = sampler([prompt], [seed], *steer, record)
    recorder = sampled.observers[-1]
    return np.stack([maps[0].mean(1).numpy() for maps in recorder.maps.values()]), sampled.images[0].numpy()
