"""The learned objective: what a trained classifier says of the maps (Learn-to-Steer, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig
from l2s_core.dataset.schema import MapSource
from l2s_core.steering.objectives.objective import Objective


@dataclass(frozen=True, kw_only=True)
class ClassifierObjective(Objective):
    """Cross-entropy of a trained classifier to the wanted relation.

    With a `confidence`, a relation is also satisfied where the classifier gives it that probability or more.
    """

    normalized: ClassVar[bool | None] = None
    classifier: TrainedClassifier
    confidence: float | None = None

    @classmethod
    def of(cls, classifier: TrainedClassifier, config: SteeringConfig | None = None) -> ClassifierObjective:
        """The objective of a classifier, over the maps it was trained on; satisfied as `config` says, or never."""
        confidence = None if config is None else config.confidence
        return cls(classifier=classifier, source=classifier.source, confidence=confidence)

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
