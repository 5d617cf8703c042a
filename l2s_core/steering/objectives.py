"""What steering aims at: a loss on the attention maps of two phrases, and when it is low enough.

There are three objectives and one steering loop. `ClassifierObjective` is the learned one (Learn-to-Steer, section
3.3), `CentroidObjective` a handcrafted one on attention centroids, `PresenceObjective` is Attend-and-Excite's and
knows no relations. All read the same captured attention.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig
from l2s_core.dataset.schema import MapSource
from l2s_core.errors import UserError
from l2s_core.relations import LABELS, RELATIONS
from l2s_core.steering.targets import Targets

DIRECTIONS: dict[str, tuple[float, float]] = {
    "left of": (-1.0, 0.0),
    "right of": (1.0, 0.0),
    "above": (0.0, -1.0),
    "below": (0.0, 1.0),
}
"""Where the subject lies from the object, (x, y), y growing downwards."""
SMOOTHING_SIGMA = 0.5  # pixels of the map grid; Attend-and-Excite's, over 3 x 3


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """A loss over attention maps of `source`, and the rule by which a relation is satisfied.

    A relation whose loss is below `min_loss` is satisfied; an objective may add rules of its own. `normalized` says
    which maps it reads: each summing to 1, or the attention itself, a probability a cell.
    """

    source: MapSource
    min_loss: float = 0.0
    normalized: ClassVar[bool] = True

    @abstractmethod
    def loss(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor) -> Tensor:
        """Return loss_B, differentiable in the maps.

        `capture_index_B` is the position among the captured steps, `label_B` the wanted relation, an index in LABELS.
        """

    def loss_offset(self, weight_P: Tensor) -> Tensor:
        """Return what is taken off the loss of a relation that shares its pair with others (see Targets.weight_P)."""
        return torch.zeros_like(weight_P)

    def satisfied(self, loss_B: Tensor) -> Tensor:
        """Return which relations need no further update; never one whose loss is not a number."""
        return loss_B < self.min_loss

    @property
    def supported_relations(self) -> tuple[str, ...]:
        """The relations it has a loss for: the first ones of LABELS."""
        return self.source.relations

    def require_known(self, targets: Targets) -> None:
        """Raise UserError for a relation that this objective has no loss for."""
        supported = self.supported_relations
        unknown = [LABELS[label] for label in sorted(set(targets.label_P.tolist())) if label >= len(supported)]
        if unknown:
            raise UserError(
                f"a prompt asks for the relation {unknown[0]!r}, and this objective knows {', '.join(supported)}; "
                "train a classifier on data with data.attributes, or leave data.attributes out: colours are then not "
                "steered"
            )

    def require(self, source: MapSource) -> None:
        """Raise UserError unless `source` is exactly what this objective reads."""
        differences = self.source.differences(source)
        if differences:
            raise UserError(
                f"this objective reads other maps: {'; '.join(differences)} (its own value first); "
                "build it for this model and schedule"
            )


@dataclass(frozen=True, kw_only=True)
class ClassifierObjective(Objective):
    """Cross-entropy of a trained classifier to the wanted relation.

    With a `confidence`, a relation is also satisfied where the classifier gives it that probability or more.
    """

    classifier: TrainedClassifier
    confidence: float | None = None

    @classmethod
    def of(cls, classifier: TrainedClassifier, config: SteeringConfig | None = None) -> ClassifierObjective:
        """The objective of a classifier, over the maps it was trained on; satisfied as `config` says, or never."""
        if config is None:
            return cls(classifier=classifier, source=classifier.source)
        return cls(
            classifier=classifier, source=classifier.source, confidence=config.confidence, min_loss=config.min_loss
        )

    def loss(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor) -> Tensor:
        return cross_entropy(self.classifier.model(maps_BOMGG, capture_index_B), label_B, reduction="none")

    def loss_offset(self, weight_P: Tensor) -> Tensor:
        """Return -2 log(weight).

        No classifier can avoid -log(weight): its probabilities sum to 1. The rest is as much again, because a pair
        need not split evenly: half of a relation's share is enough. Without `confidence` there is no offset: the
        paper's rule makes all of its updates for a diagonal.
        """
        if self.confidence is None:
            return super().loss_offset(weight_P)
        return -2 * weight_P.log()

    def satisfied(self, loss_B: Tensor) -> Tensor:
        satisfied_B = super().satisfied(loss_B)
        if self.confidence is None:
            return satisfied_B
        return satisfied_B | ((-loss_B).exp() >= self.confidence)

    def require(self, source: MapSource) -> None:
        self.classifier.require(source)


@dataclass(frozen=True, kw_only=True)
class CentroidObjective(Objective):
    """A handcrafted loss: the subject's attention centroid must lie `margin` beyond the object's, along the
    relation's axis.

    loss = max(0, margin - d . (c_subject - c_object)). d is the unit vector of the wanted relation, c the centre of
    mass of a phrase's maps, averaged over all channels. Every map sums to 1, so this is the centroid of their mean
    map. Units: shares of the map's side, so that `margin` does not depend on the grid; one cell is 1 / grid.
    Satisfied at loss 0.

    Heads that attend everywhere pull the mean centroids together, so a margin is small beside the objects' distance.
    In plain images of mini-sd that are right, centroids lie 0.01 (median) to 0.04 (90 %) apart along the axis; in wrong
    ones 0.00 to 0.02.
    """

    margin: float

    def loss(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor) -> Tensor:
        centroid_BO2 = centroids(maps_BOMGG).mean(2)
        offset_B2 = centroid_BO2[:, 0] - centroid_BO2[:, 1]
        directions = [DIRECTIONS[name] for name in RELATIONS]
        direction_R2 = torch.tensor(directions, device=offset_B2.device, dtype=offset_B2.dtype)
        return (self.margin - (offset_B2 * direction_R2[label_B]).sum(-1)).clamp_min(0)

    def satisfied(self, loss_B: Tensor) -> Tensor:
        return super().satisfied(loss_B) | (loss_B <= 0)


@dataclass(frozen=True, kw_only=True)
class PresenceObjective(Objective):
    """Attend-and-Excite's loss (Chefer et al. 2023, arXiv 2301.13826): 1 - the peak of the more neglected phrase.

    As there: attention is averaged over layers and heads and smoothed by a 3 x 3 Gaussian of sigma 0.5. A phrase's
    peak is its largest cell, and the smaller of the two peaks counts. The loss names no relation and cannot tell them
    apart.

    Different here:

    1. A phrase's attention is the mean over its tokens, and is read as it is, a probability. The original leaves out
    the
       start token and takes a second softmax over the others, of 100 times the attention. That needs every token's
       map, and not those of two phrases. Maps that sum to 1 would not do: they no longer say how much a phrase is
       attended to. So peaks are smaller than in the paper (0.02 to 0.05 in plain images of mini-sd), and its
       thresholds 0.05, 0.5 and 0.8 mean nothing here: `presence` is on this scale, for every step alike.
    2. All captured layers are read, resized to the grid, and not those of 16 x 16 alone. 3. Step sizes and the number
    of updates are the steering loop's, the same for every step. There is no decay, and there
       are no more updates at three chosen steps than at the others.

    Satisfied at a peak >= `presence`; at 1, never.
    """

    normalized: ClassVar[bool] = False
    presence: float = 1.0

    @property
    def supported_relations(self) -> tuple[str, ...]:
        return LABELS

    def loss(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor) -> Tensor:
        peak_BO = smoothed(maps_BOMGG.mean(2)).flatten(2).amax(-1)
        return 1 - peak_BO.amin(1)

    def satisfied(self, loss_B: Tensor) -> Tensor:
        return super().satisfied(loss_B) | (1 - loss_B >= self.presence)


def centroids(maps: Tensor) -> Tensor:
    """Return the centres of mass (..., 2) of maps (..., G, G) that sum to 1: (x, y) in shares of the side, y down."""
    grid = maps.shape[-1]
    place_G = (torch.arange(grid, device=maps.device, dtype=maps.dtype) + 0.5) / grid
    return torch.stack([(maps.sum(-2) * place_G).sum(-1), (maps.sum(-1) * place_G).sum(-1)], dim=-1)


def smoothed(maps_BOGG: Tensor, sigma: float = SMOOTHING_SIGMA) -> Tensor:
    """Return maps under a 3 x 3 Gaussian, reflected at the borders."""
    distance_3 = torch.tensor([-1.0, 0.0, 1.0], device=maps_BOGG.device, dtype=maps_BOGG.dtype)
    weight_3 = torch.exp(-distance_3.square() / (2 * sigma**2))
    before, centre, after = (weight_3 / weight_3.sum()).unbind()
    wide = pad(maps_BOGG, (1, 1, 1, 1), mode="reflect")
    rows = before * wide[..., :-2, :] + centre * wide[..., 1:-1, :] + after * wide[..., 2:, :]
    return before * rows[..., :-2] + centre * rows[..., 1:-1] + after * rows[..., 2:]
