"""Watching attention while one image is sampled."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from l2s_core.attention.capture import AttentionCapture, select_layers
from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig
from l2s_core.objectives import ClassifierObjective
from l2s_core.prompts import Phrases
from l2s_core.sampling import initial_noise, sample
from l2s_core.steering import Steering
from l2s_core.targets import Targets


def trace_attention(
    backbone: Backbone, prompt: Phrases, seed: int, classifier: TrainedClassifier, *, steps: int, guidance: float,
    steering: SteeringConfig | None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Sample one image, steered if `steering` is given; return maps (T, O, G, G) of its phrases and the image (H, W, 3).

    The maps are means over all captured channels at the classifier's steps, taken after steering has
    moved the latents of that step.
    """
    schedule, source = backbone.schedule(steps), classifier.source
    condition, weights_BOK = backbone.encode_prompts([prompt.text], guidance=guidance), backbone.phrase_weights([prompt])
    capture = AttentionCapture(select_layers(backbone.layers(source.softmax), source.layers), grid=source.grid, stop_early=True)
    steer = None
    if steering is not None:
        objective = ClassifierObjective.of(classifier, confidence=steering.confidence, min_loss=steering.min_loss)
        steer = Steering(
            backbone=backbone, objective=objective, config=steering, condition=condition, weights_BOK=weights_BOK,
            targets=Targets.of([prompt], backbone.device), timesteps=schedule.timesteps,
        )  # fmt: skip
    means: list[np.ndarray] = []

    @torch.no_grad()
    def watch(latents: Tensor, step: int) -> Tensor:
        if steer is not None:
            latents = steer(latents, step)
        if step in source.steps:
            with capture.recording(weights_BOK):
                capture.run(lambda: backbone.predict(latents, schedule.timesteps[step], condition.unguided()))
            means.append(capture.maps()[0].mean(1).cpu().numpy())
        return latents

    latents = sample(backbone, initial_noise([seed], backbone.latent_shape, backbone.device), condition, schedule, watch)
    return np.stack(means), backbone.decode(latents)[0]
