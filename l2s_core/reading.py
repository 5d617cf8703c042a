"""Reading an objective off latents: one pass of the denoiser without guidance, the phrases' attention, the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2s_core.attention.capture import AttentionCapture, select_layers
from l2s_core.backbones.base import Backbone, Condition
from l2s_core.dataset.schema import MapSource
from l2s_core.objectives import Objective
from l2s_core.relations import relation_index


@dataclass(kw_only=True)
class ObjectiveReader:
    """An objective for a batch of prompts; raises UserError where it reads other maps than this model's and schedule's.

    The pass is the one that the classifier's data came from: no guidance, and an end after the last captured layer.
    """

    backbone: Backbone
    objective: Objective
    condition: Condition
    weights_BOK: Tensor
    relations: list[str]
    timesteps: tuple[float, ...]

    def __post_init__(self) -> None:
        source = self.objective.source
        self.condition = self.condition.unguided()
        self.wanted_B = torch.tensor([relation_index(name) for name in self.relations], device=self.backbone.device)
        layers = select_layers(self.backbone.layers(source.softmax), source.layers)
        self.capture = AttentionCapture(layers, grid=source.grid, stop_early=True)
        self.objective.require(
            MapSource(
                backbone=self.backbone.fingerprint, layers=source.layers, channels=self.capture.channels, grid=source.grid,
                steps=source.steps, schedule_steps=len(self.timesteps), softmax=source.softmax,
            )
        )  # fmt: skip

    def loss(self, latents: Tensor, indices: Tensor, step: int) -> Tensor:
        """Return loss_B of the prompts at `indices` before `step`; differentiable in `latents`, one a prompt."""
        condition = self.condition.select(indices)
        with self.capture.recording(self.weights_BOK[indices]):
            self.capture.run(lambda: self.backbone.predict(latents, self.timesteps[step], condition))
        maps_BOMGG = self.capture.maps(normalize=self.objective.normalized)
        position_B = torch.full((len(indices),), self.objective.source.step_for(step), device=latents.device)
        return self.objective.loss(maps_BOMGG, position_B, self.wanted_B[indices])
