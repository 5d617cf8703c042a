"""Reading an objective off latents: one pass of the denoiser without guidance, the phrases' attention, the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_core.attention.capture import AttentionCapture, select_layers
from l2s_core.backbones.base import Backbone, Condition
from l2s_core.dataset.schema import MapSource
from l2s_core.objectives import Objective
from l2s_core.targets import Targets


@dataclass(kw_only=True)
class ObjectiveReader:
    """An objective for a batch of prompts; raises UserError where it reads other maps than this model's and schedule's.

    The pass is the one that the classifier's data came from: no guidance, and an end after the last captured layer.
    """

    backbone: Backbone
    objective: Objective
    condition: Condition
    weights_BOK: Tensor
    timesteps: tuple[float, ...]

    def __post_init__(self) -> None:
        source = self.objective.source
        self.condition = self.condition.unguided()
        layers = select_layers(self.backbone.layers(source.softmax), source.layers)
        self.capture = AttentionCapture(layers, grid=source.grid, stop_early=True)
        self.objective.require(
            MapSource(
                backbone=self.backbone.fingerprint, layers=source.layers, channels=self.capture.channels, grid=source.grid,
                steps=source.steps, schedule_steps=len(self.timesteps), softmax=source.softmax, relations=source.relations,
            )
        )  # fmt: skip

    def loss(self, latents: Tensor, indices: Tensor, step: int, targets: Targets) -> Tensor:
        """Return loss_P of `targets`, relations of the prompts at `indices`, before `step`; differentiable in `latents`, one a prompt.

        One pass of the denoiser a prompt, however many relations it states. Where one pair shows two relations the objective's
        allowance is taken off, so that what satisfies it is the same for every relation.
        """
        condition = self.condition.select(indices)
        with self.capture.recording(self.weights_BOK[indices]):
            self.capture.run(lambda: self.backbone.predict(latents, self.timesteps[step], condition))
        maps_BOMGG = self.capture.maps(normalize=self.objective.normalized)
        maps_P2MGG = maps_BOMGG[targets.image_P.unsqueeze(1), targets.phrases_P2]
        position_P = torch.full_like(targets.wanted_P, self.objective.source.step_for(step))
        return self.objective.loss(maps_P2MGG, position_P, targets.wanted_P) - self.objective.allowance(targets.share_P)
