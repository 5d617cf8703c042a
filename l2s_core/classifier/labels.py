"""What a classifier's answers mean where several labels of a pair may be true: two objects that stand diagonally.

With logits x_r of R labels and the set T of true ones:

* single: p = softmax(x); loss = -log sum_{r in T} p_r, cross-entropy where T has one label. Records with more are left
  out of training, as in the paper's data. The R probabilities compete: a classifier that is sure of one of two true
  relations gives the other one nothing, and the gradient of -log p of that other one is a push away from the first.
* soft: p = softmax(x); loss = -sum_r t_r log p_r with t_r = 1/|T| on T: cross-entropy to soft labels. It is least, log
  |T|, where p = t: a pair that stands diagonally has a half of each.
* multi: p_r = sigmoid(x_r), R answers that do not compete (binary relevance); loss = -sum_{r in T} log p_r -
  sum_{r not in T} log(1 - p_r), binary cross-entropy. Of a diagonal both are near 1, and nothing of one relation's loss
  speaks against the other.
* powerset: a class for each label alone and one for each diagonal (label powerset; Tsoumakas & Katakis 2007), C logits
  x_c; p = softmax(x); loss = -log p_T, cross-entropy to the class that is T. The paper's code reads diagonals so, as
  "above_left". A relation's own probability is the sum over the classes that hold it.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, logsigmoid

from l2s_core.relations import DIAGONALS, PLANAR

NEVER = float("-inf")


def classes_of(labels: int) -> Tensor:
    """Return held_CR: which of R = `labels` labels the classes of a label powerset hold, C = R + 4.

    The first four labels are those of the plane, whatever the others are.
    """
    corners = [[name in held for name in PLANAR] + [False] * (labels - len(PLANAR)) for held in DIAGONALS]
    return torch.cat([torch.eye(labels, dtype=torch.bool), torch.tensor(corners)])


class Labels(StrEnum):
    """The value of `ClassifierConfig.labels`."""

    SINGLE = "single"
    SOFT = "soft"
    MULTI = "multi"
    POWERSET = "powerset"

    def outputs(self, labels: int) -> int:
        """Return how many logits a classifier of R = `labels` labels has."""
        return labels + len(DIAGONALS) if self is Labels.POWERSET else labels

    @property
    def takes_several(self) -> bool:
        """Whether records with several true labels take part in training."""
        return self is not Labels.SINGLE

    def of_labels(self, logits_BC: Tensor) -> Tensor:
        """Return logits_BR, one a label: what a classifier answers, but for a powerset."""
        if self is not Labels.POWERSET:
            return logits_BC
        held_CR = classes_of(logits_BC.shape[-1] - len(DIAGONALS)).to(logits_BC.device)
        return logits_BC.unsqueeze(-1).masked_fill(~held_CR, NEVER).logsumexp(-2)

    def log_probability(self, logits_BC: Tensor) -> Tensor:
        """Return the log-probability of every label (B, R)."""
        if self is Labels.MULTI:
            return logsigmoid(logits_BC)
        return self.of_labels(log_softmax(logits_BC, -1))

    def loss(self, logits_BR: Tensor, truth_BR: Tensor) -> Tensor:
        """Return loss_B of logits where `truth_BR` marks the true labels, one or more each."""
        if self is Labels.POWERSET:
            return -log_probability_of(logits_BR, truth_BR)
        if self is Labels.MULTI:
            return binary_cross_entropy_with_logits(logits_BR, truth_BR.to(logits_BR), reduction="none").sum(-1)
        log_p_BR = self.log_probability(logits_BR)
        if self is Labels.SINGLE:
            return -log_p_BR.masked_fill(~truth_BR, NEVER).logsumexp(-1)
        target_BR = truth_BR.to(logits_BR)
        return -(target_BR / target_BR.sum(-1, keepdim=True) * log_p_BR).sum(-1)


def log_probability_of(logits_BC: Tensor, wanted_BR: Tensor) -> Tensor:
    """Return the log-probability (B) of the class of a powerset that holds what is wanted and nothing else."""
    held_CR = classes_of(wanted_BR.shape[-1]).to(logits_BC.device)
    other_BC = (wanted_BR.unsqueeze(1) != held_CR).any(-1)
    return log_softmax(logits_BC, -1).masked_fill(other_BC, NEVER).logsumexp(-1)


def hits(logits_BR: Tensor, truth_BR: Tensor) -> Tensor:
    """Return whether the likeliest label is a true one, (B,)."""
    return truth_BR.gather(-1, logits_BR.argmax(-1, keepdim=True)).squeeze(-1)


def all_read(logits_BR: Tensor, truth_BR: Tensor) -> Tensor:
    """Return whether the likeliest |T| labels are the |T| true ones, (B,)."""
    least_true_B = logits_BR.masked_fill(~truth_BR, -NEVER).amin(-1)
    return least_true_B > logits_BR.masked_fill(truth_BR, NEVER).amax(-1)
