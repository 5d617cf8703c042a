"""The learned objective: what a trained classifier says of the maps (Learn-to-Steer, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.labels import NEVER, Labels, log_probability_of
from l2s_core.config import SteeringConfig
from l2s_core.dataset.schema import MapSource
from l2s_core.relations import label_index
from l2s_core.steering.objectives.objective import Objective


@dataclass(frozen=True, kw_only=True)
class ClassifierObjective(Objective):
    """Minus the log-probability that a trained classifier gives the wanted relation.

    With a `confidence` c, a relation is also satisfied where exp(-loss) >= c: where one is asked of a pair, where its
    probability is c or more. A diagonal asks for n = 2 relations of one pair, and what can be asked of each depends on
    what the classifier's answers mean (`classifier/labels.py`):

    * single: its probabilities compete, and none was trained on a diagonal. loss_r = -log p_r - 2 log n: no classifier
      can avoid log n, since the two sum to 1 at most, and the rest is as much again, because a pair need not split
      evenly: half of a relation's share is enough. Without `confidence` nothing is taken off: the paper's rule makes
      all of its updates for a diagonal.
    * soft: sure of a diagonal, it gives each relation 1/n. loss_r = -log m + max(0, log((1/2n) / (p_r / m))) with m the
      sum of the probabilities of the pair's n relations: it asks for the mass of both together, however it is split, as
      long as relation r has half of its even share of it. The second term is 0 where n = 1, and m is p_r.
    * powerset: loss_r = -log p_c, c the class that holds the pair's n relations and nothing else: both relations of a
      diagonal share the one loss of its class, as in the paper's code.
    * multi: loss_r = -log p_r, p_r = sigmoid(x_r), as if it were asked alone. Both can be near 1 at once.
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
        return -self._log_probability(maps_BOMGG, capture_index_B, label_B)[1]

    def loss_among(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor, wanted_BR: Tensor) -> Tensor:
        labels = Labels(self.classifier.config.labels)
        wanted_BR = wanted_BR[:, self._columns(wanted_BR)]
        if labels is Labels.POWERSET:
            return -log_probability_of(self.classifier.model(maps_BOMGG, capture_index_B), wanted_BR)
        log_p_BR, log_p_B = self._log_probability(maps_BOMGG, capture_index_B, label_B)
        count_B = wanted_BR.sum(1).to(log_p_B)
        match labels:
            case Labels.SINGLE if self.confidence is not None:
                return -log_p_B - 2 * count_B.log()
            case Labels.SOFT:
                log_mass_B = log_p_BR.masked_fill(~wanted_BR, NEVER).logsumexp(1)
                share_B = log_p_B - log_mass_B
                return -log_mass_B + (-(2 * count_B).log() - share_B).clamp_min(0)
        return -log_p_B

    def _log_probability(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor]:
        """The log-probabilities of all labels (B, R), and of the wanted one (B)."""
        log_p_BR = self.classifier.log_probability(maps_BOMGG, capture_index_B)
        answer_B1 = (self._columns(label_B) == label_B.unsqueeze(1)).long().argmax(1, keepdim=True)
        return log_p_BR, log_p_BR.gather(1, answer_B1).squeeze(1)

    def _columns(self, like: Tensor) -> Tensor:
        """The index in LABELS of every label of the classifier, (R,)."""
        return torch.tensor([label_index(name) for name in self.source.relations], device=like.device)

    @property
    def one_loss_a_pair(self) -> bool:
        return Labels(self.classifier.config.labels) is Labels.POWERSET

    def satisfied(self, loss_B: Tensor) -> Tensor:
        satisfied_B = super().satisfied(loss_B)
        if self.confidence is None:
            return satisfied_B
        return satisfied_B | ((-loss_B).exp() >= self.confidence)

    def require(self, source: MapSource) -> None:
        self.classifier.require(source)
