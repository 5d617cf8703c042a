"""Watching one image being sampled: its attention, and what the classifier makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig
from l2s_core.dataset.recorder import Recorder
from l2s_core.diffusion.sampler import Sampler
from l2s_core.prompts.prompt import Phrases
from l2s_core.steering.steering import Steering, steer_by


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One image (H, W, 3) being made.

    maps_TOGG: its phrases' attention, means over all captured channels at the classifier's T steps, taken after
    steering has moved the latents of that step. confidence_SR: what the classifier gave the wanted relations at each
    steered step; None without steering.
    """

    image: np.ndarray
    maps_TOGG: np.ndarray
    confidence_SR: np.ndarray | None


def trace(
    sampler: Sampler[Backbone],
    prompt: Phrases,
    seed: int,
    classifier: TrainedClassifier,
    steering: SteeringConfig | None,
) -> Trace:
    """Sample one image, steered if `steering` is given, and watch."""
    steer = () if steering is None else (steer_by(classifier, steering),)
    record = partial(Recorder, source=classifier.source, dtype=torch.float32)
    sampled = sampler([prompt], [seed], *steer, record)
    recorder = sampled.observers[-1]
    steered = sampled.observers[0]
    return Trace(
        image=sampled.images[0].numpy(),
        maps_TOGG=np.stack([maps[0].mean(1).numpy() for maps in recorder.maps.values()]),
        confidence_SR=steered.confidence()[0] if isinstance(steered, Steering) else None,
    )
