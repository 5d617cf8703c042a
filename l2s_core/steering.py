"""Steering: the gradient of an objective moves the latents before a denoising step (Learn-to-Steer, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from l2s_core.backbones.base import Backbone, Condition
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig
from l2s_core.objectives import ClassifierObjective, Objective
from l2s_core.reading import ObjectiveReader


@dataclass(kw_only=True)
class SteeringCost:
    """What steering spent, per image of the batch: evaluations with and without a gradient, skipped updates."""

    gradients: Tensor
    checks: Tensor
    skipped: Tensor

    @classmethod
    def zeros(cls, batch: int) -> SteeringCost:
        return cls(**{name: torch.zeros(batch, dtype=torch.long) for name in ("gradients", "checks", "skipped")})


@dataclass(kw_only=True)
class Steering:
    """A `before_step` callable that steers a batch of prompts towards their relations.

    Before step i < until_step, up to `updates` times: run the denoiser without guidance, read the
    phrase attention, take the objective's loss for the wanted relation, and move
    z <- z - step_size * g, with g the gradient itself (`normalize: none`, the paper's rule) or divided
    by its root mean square (`rms`). An image leaves the loop of this step once the objective is
    satisfied; the batch shrinks. A gradient that is not finite skips that image's update and is counted.

    Given a classifier in place of an objective, the objective is its cross-entropy, satisfied at the
    settings' `confidence`, or at a loss below their `min_loss`.
    """

    backbone: Backbone
    config: SteeringConfig
    condition: Condition
    weights_BOK: Tensor
    relations: list[str]
    timesteps: tuple[float, ...]
    classifier: TrainedClassifier | None = None
    objective: Objective | None = None
    cost: SteeringCost = field(init=False)

    def __post_init__(self) -> None:
        if (self.classifier is None) == (self.objective is None):
            raise ValueError("steering follows one objective; give an objective, or a classifier")
        if self.objective is None:
            self.objective = ClassifierObjective.of(self.classifier, confidence=self.config.confidence, min_loss=self.config.min_loss)
        self.reader = ObjectiveReader(
            backbone=self.backbone, objective=self.objective, condition=self.condition, weights_BOK=self.weights_BOK,
            relations=self.relations, timesteps=self.timesteps,
        )  # fmt: skip
        self.cost = SteeringCost.zeros(len(self.relations))

    def __call__(self, latents: Tensor, step: int) -> Tensor:
        if step >= self.config.until_step:
            return latents
        latents = latents.clone()
        active = torch.arange(len(latents), device=latents.device)
        if step > 0:  # most images are right already: find the others without paying for gradients
            with torch.no_grad():
                loss_B = self._loss(latents, active, step)
            self.cost.checks += 1
            active = active[self._unsatisfied(loss_B)]
        for _ in range(self.config.updates):
            if len(active) == 0:
                break
            active = self._update(latents, active, step)
        return latents

    def _update(self, latents: Tensor, active: Tensor, step: int) -> Tensor:
        """Move the unsatisfied of the active latents in place; return those."""
        moving = latents[active].requires_grad_(True)
        self.cost.gradients[active.cpu()] += 1
        with torch.enable_grad():
            loss_B = self._loss(moving, active, step)
            keep = self._unsatisfied(loss_B.detach())
            if not keep.any():
                return active[keep]
            (gradient,) = torch.autograd.grad(loss_B[keep].sum(), moving)
        active, gradient = active[keep], gradient[keep]
        finite = gradient.flatten(1).isfinite().all(1)
        self.cost.skipped[active[~finite].cpu()] += 1
        if self.config.normalize == "rms":
            rms = gradient.square().flatten(1).mean(1).sqrt().clamp_min(1e-12)
            gradient = gradient / rms.view(-1, *[1] * (gradient.ndim - 1))
        move = torch.where(finite.view(-1, *[1] * (gradient.ndim - 1)), gradient, torch.zeros_like(gradient))
        latents[active] -= self.config.step_size * move
        return active

    def _loss(self, latents: Tensor, indices: Tensor, step: int) -> Tensor:
        """The objective's loss of each latent; differentiable in `latents`."""
        return self.reader.loss(latents, indices, step)

    def _unsatisfied(self, loss_B: Tensor) -> Tensor:
        return ~self.objective.satisfied(loss_B)
