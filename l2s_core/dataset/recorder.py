"""Keeping the phrases' attention while images are sampled."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field

import torch
from torch import Tensor

from l2s_core.backbones.base import Backbone
from l2s_core.dataset.schema import MapSource
from l2s_core.diffusion.sampler import Batch


@dataclass
class Recorder:
    """An observer that keeps the phrases' maps of every captured step on the CPU: maps[step] is maps_BOMGG.

    It reads the latents as they are when its turn comes: after steering, where that stands before it.
    """

    batch: Batch[Backbone]
    _: KW_ONLY
    source: MapSource
    dtype: torch.dtype = torch.float16  # a dataset's
    maps: dict[int, Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._reader = self.source.reader(self.batch.backbone)
        self._weights_BOK = self.batch.backbone.phrase_weights(self.batch.prompts)

    @torch.no_grad()
    def __call__(self, latents: Tensor, step: int) -> Tensor:
        if step in self.source.steps:
            timestep = self.batch.schedule.timesteps[step]
            maps_BOMGG = self._reader.read(latents, timestep, self.batch.condition, self._weights_BOK)
            self.maps[step] = maps_BOMGG.to("cpu", self.dtype)
        return latents
