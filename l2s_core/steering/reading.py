"""Reading off latents by one pass of the denoiser without guidance: the phrases' attention, and an objective of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from l2s_core.backbones.base import Backbone
from l2s_core.dataset.schema import MapSource
from l2s_core.diffusion.condition import Condition
from l2s_core.diffusion.sampling import Observer
from l2s_core.steering.objectives import Objective
from l2s_core.steering.targets import Targets


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
        self.reader = source.reader(self.backbone, normalize=self.objective.normalized)
        self.objective.require(
            MapSource(
                backbone=self.backbone.fingerprint,
                layers=source.layers,
                channels=self.reader.channels,
                grid=source.grid,
                steps=source.steps,
                schedule_steps=len(self.timesteps),
                softmax=source.softmax,
                relations=source.relations,
            )
        )

    def loss(self, latents: Tensor, indices: Tensor, step: int, targets: Targets) -> Tensor:
        """Return loss_P of `targets`, relations of the prompts at `indices`, before `step`; differentiable in `latents`, one a prompt.

        One pass of the denoiser a prompt, however many relations it states. Where one pair shows two relations the objective's
        loss_offset is taken off, so that what satisfies it is the same for every relation.
        """
        condition = self.condition.select(indices)
        maps_BOMGG = self.reader.read(latents, self.timesteps[step], condition, self.weights_BOK[indices])
        maps_P2MGG = maps_BOMGG[targets.image_P.unsqueeze(1), targets.phrases_P2]
        capture_index_P = torch.full_like(targets.label_P, self.objective.source.capture_index_for(step))
        return self.objective.loss(maps_P2MGG, capture_index_P, targets.label_P) - self.objective.loss_offset(
            targets.weight_P
        )


@dataclass(kw_only=True)
class Recorder:
    """A `before_step` callable that keeps the phrases' maps of every captured step on the CPU, maps_BOMGG, after `first` has moved the latents, if given."""

    backbone: Backbone
    condition: Condition
    weights_BOK: Tensor
    targets: Targets
    timesteps: tuple[float, ...]
    source: MapSource
    first: Observer | None = None
    dtype: torch.dtype = torch.float16  # a dataset's
    maps: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reader = self.source.reader(self.backbone)

    @torch.no_grad()
    def __call__(self, latents: Tensor, step: int) -> Tensor:
        if self.first is not None:
            latents = self.first(latents, step)
        if step in self.source.steps:
            maps_BOMGG = self.reader.read(latents, self.timesteps[step], self.condition, self.weights_BOK)
            self.maps[step] = maps_BOMGG.to("cpu", self.dtype)
        return latents
