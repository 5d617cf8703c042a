"""What steering drives at: from the attention maps of two phrases to a loss, and when it is low enough.

Three objectives, one steering loop: the learned one (Learn-to-Steer, section 3.3), a handcrafted one on attention
centroids, and Attend-and-Excite's, which knows no relations. Each reads the same captured attention.
"""

from __future__ import annotations

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
class Objective:
    """A loss over attention maps of `source`; a relation whose loss is below `min_loss` is satisfied, whatever else satisfies it.

    `normalized` says which maps it reads: each summing to 1, or the attention itself, in [0, 1] a pixel.
    """

    source: MapSource
    min_loss: float = 0.0
    normalized: ClassVar[bool] = True

    def loss(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor) -> Tensor:
        """Return loss_B, differentiable in the maps; `position` in the captured steps, `wanted` labels of LABELS."""
        raise NotImplementedError

    def loss_offset(self, weight_P: Tensor) -> Tensor:
        """Return what is taken off the loss of a relation that has to share its pair with others (see Targets)."""
        return torch.zeros_like(weight_P)

    def satisfied(self, loss_B: Tensor) -> Tensor:
        """Return which relations need no further update; never one whose loss is not a number."""
        return loss_B < self.min_loss

    @property
    def supported_relations(self) -> tuple[str, ...]:
        """The relations it has a loss for, a beginning of LABELS."""
        return self.source.relations

    def require_known(self, targets: Targets) -> None:
        """Raise UserError for a relation that this objective knows nothing of."""
        unknown = [
            LABELS[label] for label in targets.label_P.unique().tolist() if label >= len(self.supported_relations)
        ]
        if unknown:
            raise UserError(
                f"a prompt asks for the relation {unknown[0]!r}, and this objective knows {', '.join(self.supported_relations)}; "
                "train a classifier on data with data.attributes, or leave data.attributes out: colours are then not steered"
            )

    def require(self, source: MapSource) -> None:
        """Raise UserError unless `source` is exactly what this objective reads."""
        differences = self.source.differences(source)
        if differences:
            raise UserError(
                f"this objective reads other maps: {'; '.join(differences)} (its own value first); build it for this model and schedule"
            )


@dataclass(frozen=True, kw_only=True)
class ClassifierObjective(Objective):
    """Cross-entropy of a trained classifier to the wanted relation; satisfied at probability >= `confidence`, too."""

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
        """-log share, which no classifier can avoid, and as much again: a split need not be even, half a share is enough.

        Without `confidence` there is none: the paper's rule makes all of its updates for a diagonal.
        """
        return super().loss_offset(weight_P) if self.confidence is None else -2 * weight_P.log()

    def satisfied(self, loss_B: Tensor) -> Tensor:
        satisfied = super().satisfied(loss_B)
        if self.confidence is not None:
            satisfied = satisfied | ((-loss_B).exp() >= self.confidence)
        return satisfied

    def require(self, source: MapSource) -> None:
        self.classifier.require(source)


@dataclass(frozen=True, kw_only=True)
class CentroidObjective(Objective):
    """A handcrafted loss: the subject's attention centroid must lie `margin` beyond the object's, along the relation's axis.

    loss = max(0, margin - d . (c_subject - c_object)), d the unit vector of the wanted relation and c the centre of mass of a
    phrase's maps, averaged over all channels (which is the centroid of their mean map, since every map sums to 1). Units:
    shares of the map's side, so that `margin` does not depend on the grid; one cell is 1 / grid. Satisfied at loss 0.

    Heads that attend everywhere pull the mean centroids together: in plain images of mini-sd that are right, they lie 0.01
    (median) to 0.04 (90 %) apart along the axis, in wrong ones 0.00 to 0.02, so a margin is small beside the objects' distance.
    """

    margin: float

    def loss(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor) -> Tensor:
        centroid_BO2 = centroids(maps_BOMGG).mean(2)
        offset_B2 = centroid_BO2[:, 0] - centroid_BO2[:, 1]
        direction_R2 = torch.tensor(
            [DIRECTIONS[name] for name in RELATIONS], device=offset_B2.device, dtype=offset_B2.dtype
        )
        return (self.margin - (offset_B2 * direction_R2[label_B]).sum(-1)).clamp_min(0)

    def satisfied(self, loss_B: Tensor) -> Tensor:
        return super().satisfied(loss_B) | (loss_B <= 0)


@dataclass(frozen=True, kw_only=True)
class PresenceObjective(Objective):
    """Attend-and-Excite's loss (Chefer et al. 2023, arXiv 2301.13826): 1 - the peak of the more neglected phrase.

    As there: attention averaged over layers and heads, smoothed by a 3 x 3 Gaussian of sigma 0.5, its largest pixel, the
    worse of the subjects, and latents that go down its gradient. It names no relation and cannot tell them apart.

    Different here: (1) a phrase's attention is the mean over its tokens and is read as it is, a probability; the original
    leaves out the start token and takes a second softmax over the others, of 100 times the attention, which needs every
    token's map and not two phrases'. Maps that sum to 1 would not do: they no longer say how much a phrase is attended to.
    So peaks are smaller than in the paper (0.02 to 0.05 in plain images of mini-sd), and its thresholds 0.05, 0.5 and 0.8
    mean nothing here: `presence` is on this scale, for every step alike. (2) All captured layers are read, resized to the
    grid, not those of 16 x 16 alone. (3) Step sizes and the number of updates are the steering loop's, the same for every
    step: no decay, and no more updates at three chosen steps than at the others.

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
    """Return the centres of mass (..., 2) as (x, y) of maps (..., G, G) that sum to 1, in shares of the side, y growing downwards."""
    grid = maps.shape[-1]
    place_G = (torch.arange(grid, device=maps.device, dtype=maps.dtype) + 0.5) / grid
    return torch.stack([(maps.sum(-2) * place_G).sum(-1), (maps.sum(-1) * place_G).sum(-1)], dim=-1)


def smoothed(maps_BOGG: Tensor, sigma: float = SMOOTHING_SIGMA) -> Tensor:
    """Return maps under a 3 x 3 Gaussian, reflected at the borders."""
    weight_3 = torch.exp(
        -torch.tensor([-1.0, 0.0, 1.0], device=maps_BOGG.device, dtype=maps_BOGG.dtype).square() / (2 * sigma**2)
    )
    before, centre, after = (weight_3 / weight_3.sum()).unbind()
    wide = pad(maps_BOGG, (1, 1, 1, 1), mode="reflect")
    rows = before * wide[..., :-2, :] + centre * wide[..., 1:-1, :] + after * wide[..., 2:, :]
    return before * rows[..., :-2] + centre * rows[..., 1:-1] + after * rows[..., 2:]
