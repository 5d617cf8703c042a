"""An objective's loss at latents: one pass of the denoiser, the phrases' maps, the objective of them."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

import torch
from torch import Tensor

from l2s_core.attention.pairs import pair_maps
from l2s_core.attention.pooling import grid_over
from l2s_core.backbones.base import Backbone
from l2s_core.diffusion.condition import Condition
from l2s_core.diffusion.sampler import Batch
from l2s_core.errors import UserError
from l2s_core.relations import ATTRIBUTE, label_index
from l2s_core.steering.objectives import Objective
from l2s_core.steering.targets import Targets


@dataclass
class ObjectiveReader:
    """Reads an objective's loss for a batch of prompts.

    The pass is the one that the classifier's data came from: without guidance, and ended after the last captured layer.
    With `guidance`, a model that has it as an input gets that one. Raises UserError for an objective of other maps than
    this model's and schedule's, and for a guidance that is no input of the model.

    With `predicts`, `look` also gives what the same pass, not ended early, predicts: what sampling asks the model of
    the prompt alone. Not so where sampling gives the model another guidance as its input, nor of a compiled model,
    which wants batches of one size.
    """

    batch: Batch[Backbone]
    _: KW_ONLY
    objective: Objective
    guidance: float | None = None
    predicts: bool = False

    def __post_init__(self) -> None:
        source = self.objective.source
        backbone = self.batch.backbone
        if self.guidance is not None and backbone.classifier_free:
            raise UserError(
                f"steering.guidance is {self.guidance:g}, but this model's guidance is a second, empty prompt; "
                "leave it out: steering runs on the prompt alone"
            )
        same = backbone.classifier_free or self.guidance == self.batch.condition.guidance
        self._predicts = self.predicts and same and not backbone.compiled
        self._reader = source.reader(backbone, normalize=self.objective.normalized, guidance=self.guidance)
        self._weights_BOK = backbone.phrase_weights(self.batch.prompts)
        height, width = backbone.latent_shape[-2:]
        # a model that it has been trained on, to which LoRAs or new tokens were added
        of_files = source.backbone == backbone.files_fingerprint
        self.objective.require(
            replace(
                source,
                backbone=backbone.files_fingerprint if of_files else backbone.fingerprint,
                channels=self._reader.channels,
                grid=grid_over(max(source.cells), (height, width)),
                schedule_steps=len(self.batch.schedule),
            )
        )

    def loss(self, latents: Tensor, indices: Tensor, step: int, targets: Targets) -> Tensor:
        """Return loss_P of `targets`, the relations of the prompts at `indices`, before `step`.

        Differentiable in `latents`, of which there is one a prompt: one pass of the denoiser, however many relations a
        prompt states. Where one pair shows two relations, the objective knows of both.
        """
        timestep = self.batch.schedule.timesteps[step]
        maps_BOMGG = self._reader.read(latents, timestep, *self._given(indices))
        return self._loss_of(maps_BOMGG, step, targets)

    def look(self, latents: Tensor, indices: Tensor, step: int, targets: Targets) -> tuple[Tensor, Tensor | None]:
        """Return `loss`, and the prediction for each prompt alone, if the same pass gives one."""
        if not self._predicts:
            return self.loss(latents, indices, step, targets), None
        timestep = self.batch.schedule.timesteps[step]
        maps_BOMGG, prediction = self._reader.read_and_predict(latents, timestep, *self._given(indices))
        return self._loss_of(maps_BOMGG, step, targets), prediction

    def _given(self, indices: Tensor) -> tuple[Condition, Tensor]:
        """The condition of the prompts at `indices`, and weights_BOK of their phrases."""
        return self.batch.condition.select(indices), self._weights_BOK[indices]

    def _loss_of(self, maps_BOMGG: Tensor, step: int, targets: Targets) -> Tensor:
        maps_POMGG = pair_maps(maps_BOMGG, targets.image_P, self._phrases(targets), self.objective.source.context)
        capture_index_P = torch.full_like(targets.label_P, self.objective.source.capture_index_for(step))
        return self.objective.loss_among(maps_POMGG, capture_index_P, targets.label_P, targets.wanted_PR)

    def _phrases(self, targets: Targets) -> Tensor:
        """Return phrases_P2 of the targets in the order in which the objective's source has them."""
        if self.objective.source.attribute_first:
            return targets.phrases_P2
        attribute_P1 = (targets.label_P == label_index(ATTRIBUTE)).unsqueeze(1)
        return torch.where(attribute_P1, targets.phrases_P2.flip(1), targets.phrases_P2)
