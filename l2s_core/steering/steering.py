"""Steering: the gradient of an objective moves the latents before a denoising step (Learn-to-Steer, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig
from l2s_core.diffusion.condition import Predicted
from l2s_core.diffusion.sampler import Batch
from l2s_core.steering.objectives import ClassifierObjective, Objective
from l2s_core.steering.reading import ObjectiveReader
from l2s_core.steering.targets import Targets


@dataclass(kw_only=True)
class SteeringCost:
    """What steering spent, per image: evaluations with and without a gradient, skipped updates."""

    gradients: Tensor
    checks: Tensor
    skipped: Tensor

    @classmethod
    def zeros(cls, count: int) -> SteeringCost:
        """The cost of `count` images that nobody steered."""
        none = torch.zeros(count, dtype=torch.long)
        return cls(gradients=none, checks=none.clone(), skipped=none.clone())

    @classmethod
    def joined(cls, parts: Sequence[SteeringCost]) -> SteeringCost:
        """The costs of several batches, one after the other."""
        return cls(
            gradients=torch.cat([part.gradients for part in parts]),
            checks=torch.cat([part.checks for part in parts]),
            skipped=torch.cat([part.skipped for part in parts]),
        )


@dataclass(frozen=True, kw_only=True)
class Look:
    """One evaluation of the objective: loss_P of `targets`, relations of the images (B) at `images`, before a step."""

    step: int
    images: Tensor
    targets: Targets
    loss_P: Tensor


@dataclass
class Steering:
    """An observer that steers a batch of prompts towards their relations.

    Before each step i < until_step, up to `updates` times: run the denoiser without guidance, read the phrases'
    attention, take the objective's loss of every wanted relation, and move z <- z - step_size * g. g is the gradient
    itself (`normalize: none`, the paper's rule), or the gradient divided by its root mean square (`rms`). A relation is
    satisfied where its loss is below the step's `min_loss`, or the objective says so. An image leaves the loop of this
    step once its relations are satisfied, and the batch shrinks. A gradient that is not finite skips that image's
    update and is counted.

    A prompt with several relations moves down the sum of their losses (`several: joint`), which holds those that are
    satisfied where they are, or of the unsatisfied ones alone (`open`). With `each`, every unsatisfied pair of phrases
    has a gradient of its own, normalized for itself, and moves the latents by a whole step: one pass forward, and as
    many back, which count as gradients, as there are such pairs. With `cycle` the pairs take turns, one an update, in
    rotation among the unsatisfied. A prompt leaves when all its relations are satisfied.
    The paper's rule (`round-robin`, as its public code has it) gives each pair its turn whether it is satisfied or not,
    and an image leaves as soon as the pair whose turn it is is satisfied, whatever the others are. A prompt without
    relations is never touched. Raises UserError for a relation that the objective has no loss for.

    From the second step on, images are looked at once without a gradient first. With `predicts` that pass also gives,
    where the model allows it, what the step then needs for the prompts of the images that are satisfied (`predicted`),
    so that `sample` asks for these no second time: such an image costs as much as a plain one.
    """

    batch: Batch[Backbone]
    _: KW_ONLY
    objective: Objective
    config: SteeringConfig
    predicts: bool = True
    predicted: Predicted | None = field(init=False, default=None)
    targets: Targets = field(init=False)
    cost: SteeringCost = field(init=False)
    looks: list[Look] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.targets = Targets.of(self.batch.prompts, self.batch.backbone.device)
        self.objective.require_known(self.targets)
        self._reader = ObjectiveReader(
            self.batch, objective=self.objective, guidance=self.config.guidance, predicts=self.predicts
        )
        self.cost = SteeringCost.zeros(len(self.batch))

    def __call__(self, latents: Tensor, step: int) -> Tensor:
        self.predicted = None
        if step >= self.config.until_step:
            return latents
        latents = latents.clone()
        active = self.targets.has_relation(len(latents)).nonzero()[:, 0]
        if step > 0 and len(active) > 0 and not self._in_fixed_turns:
            # most images are right already: find the others without paying for gradients
            active = self._unsatisfied(latents, active, step)
        for number in range(self.config.updates):
            if len(active) == 0:
                break
            active = self._update(latents, active, step, number)
        return latents

    @property
    def _in_fixed_turns(self) -> bool:
        return self.config.several == "round-robin"

    def confidence(self) -> np.ndarray:
        """Return exp(-loss) (B, T, R): images, steered steps, relations in a prompt's order, a repeated one once.

        For a classifier's objective that is the probability of the wanted relation, of a diagonal's held against its
        share. Of each step it is the last look that steering took; not a number where it took none.
        """
        place_of: dict[tuple[int, ...], int] = {}
        for key in zip(self.targets.image_P.tolist(), *_triplets(self.targets), strict=True):
            place_of[key] = sum(1 for other in place_of if other[0] == key[0])
        steps = min(self.config.until_step, len(self.batch.schedule))
        values = np.full((len(self.batch), steps, max(place_of.values(), default=-1) + 1), np.nan)
        for look in self.looks:
            images = look.images[look.targets.image_P].tolist()
            places = [place_of[key] for key in zip(images, *_triplets(look.targets), strict=True)]
            values[images, look.step, places] = (-look.loss_P.float()).exp().clamp(max=1).cpu().numpy()
        return values

    def _unsatisfied(self, latents: Tensor, active: Tensor, step: int) -> Tensor:
        """Return those of the active images that have a relation the objective is not satisfied with; no gradient."""
        targets = self.targets.select(active)
        with torch.no_grad():
            loss_P, prediction = self._reader.look(latents[active], active, step, targets)
        self._note(step, active, targets, loss_P)
        self.cost.checks[active.cpu()] += 1
        open_B = targets.touched(self._open(loss_P, step), len(active))
        if prediction is not None:
            self.predicted = Predicted(rows=active[~open_B], prediction=prediction[~open_B])
        return active[open_B]

    def _open(self, loss_P: Tensor, step: int) -> Tensor:
        """Return which relations are not satisfied; one whose loss is not a number never is."""
        return ~((loss_P < self.config.min_loss_at(step)) | self.objective.satisfied(loss_P))

    def _update(self, latents: Tensor, active: Tensor, step: int, number: int) -> Tensor:
        """Make update `number` of a step: move the unsatisfied of the active latents in place; return their places.

        Example: a batch of four images, the third without relations, the first satisfied before this update::

            active              [0, 1, 3]        images that are still in the loop of this step
            targets.image_P     [0, 1, 1, 2]     relations, by place in `active`: the second image has two
            open_P              [F, T, F, T]     relations that are not satisfied
            keep                [F, T, T]        images with an open relation
            pushing_P, joint    [F, T, T, T]     the losses that are summed: all of an image that is kept
            pushing_P, open     [F, T, F, T]     or the open ones; so with `each` and `cycle`, a pair at a time
            returned            [1, 3]           image 0 leaves, unmoved

        In fixed turns, update 1 is that of the second image's second pair: it is satisfied, and the image leaves.

        The gradient is taken of one sum over the batch; an image's part of it depends on its own losses alone.
        """
        moving = latents[active].requires_grad_(True)
        targets = self.targets.select(active)
        self.cost.gradients[active.cpu()] += 1
        with torch.enable_grad(), self.batch.backbone.differentiable():
            loss_P = self._loss(moving, active, step, targets)
            open_P = self._open(loss_P.detach(), step)
            turns = self._turns(number, open_P, targets)
            keep = targets.touched(open_P & torch.stack(turns).any(0), len(active))
            if not keep.any():
                return active[keep]
            pushing_P = loss_P * targets.weight_P if self.objective.one_loss_a_pair else loss_P
            gradients = _gradients(pushing_P, [turn_P & keep[targets.image_P] for turn_P in turns], moving)
        for turn_P in turns[1:]:
            self.cost.gradients[active.cpu()] += targets.touched(turn_P, len(active)).long().cpu()
        active = active[keep]
        for gradient in gradients:
            latents[active] -= self.config.step_size * self._direction(gradient[keep], active)
        return active

    def _turns(self, number: int, open_P: Tensor, targets: Targets) -> list[Tensor]:
        """Return which relations are looked at in update `number`: one mask over P a gradient."""
        match self.config.several:
            case "round-robin":
                return [targets.fixed_turn(number)]
            case "cycle":
                return [targets.turn(number, open_P)]
            case "open":
                return [open_P]
            case "each":
                return targets.open_pairs(open_P) or [open_P]
        return [torch.ones_like(open_P)]

    def _direction(self, gradient: Tensor, active: Tensor) -> Tensor:
        """Return the gradient, normalized as the settings say; zero, and counted, where it is not finite."""
        ones = [1] * (gradient.ndim - 1)
        finite = gradient.flatten(1).isfinite().all(1)
        self.cost.skipped[active[~finite].cpu()] += 1
        if self.config.normalize == "rms":
            rms = gradient.square().flatten(1).mean(1).sqrt().clamp_min(1e-12)
            gradient = gradient / rms.view(-1, *ones)
        return torch.where(finite.view(-1, *ones), gradient, torch.zeros_like(gradient))

    def _loss(self, latents: Tensor, indices: Tensor, step: int, targets: Targets) -> Tensor:
        """The objective's loss of each of `targets`, the relations of the images at `indices`; it is noted."""
        loss_P = self._reader.loss(latents, indices, step, targets)
        self._note(step, indices, targets, loss_P)
        return loss_P

    def _note(self, step: int, indices: Tensor, targets: Targets, loss_P: Tensor) -> None:
        self.looks.append(Look(step=step, images=indices, targets=targets, loss_P=loss_P.detach()))


def _gradients(loss_P: Tensor, parts: Sequence[Tensor], latents: Tensor) -> list[Tensor]:
    """Return the gradient of the sum of the losses of every part, a mask over P, by one pass back each."""
    last = len(parts) - 1
    return [
        torch.autograd.grad(loss_P[part_P].sum(), latents, retain_graph=number < last)[0]
        for number, part_P in enumerate(parts)
    ]


def _triplets(targets: Targets) -> tuple[list[int], list[int], list[int]]:
    """Subject, object and label of every relation."""
    subjects, objects = targets.phrases_P2.unbind(1)
    return subjects.tolist(), objects.tolist(), targets.label_P.tolist()


def steer_by(
    classifier: TrainedClassifier, config: SteeringConfig, *, predicts: bool = True
) -> Callable[[Batch[Backbone]], Steering]:
    """Return what builds a batch's steering by a classifier: for `Sampler`, or without `predicts` for another loop."""
    return partial(Steering, objective=ClassifierObjective.of(classifier, config), config=config, predicts=predicts)
