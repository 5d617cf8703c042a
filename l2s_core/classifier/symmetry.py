"""The exact symmetries of the four spatial relations: mirrored maps mean mirrored relations.

Mirroring an image left-right turns "left of" into "right of" and leaves the vertical relations. The same holds for
mirroring up-down, for transposing, and for exchanging subject and object. Applied at random to training batches they
multiply the data sixteenfold. A mirrored map keeps whatever a wrong word left in its texture while its label changes,
so there is nothing to gain from reading the word.

An attribute and its object stay what they are in any mirror: every symmetry leaves "is" in place.

Averaging a classifier's answers over the whole group makes it exactly equivariant, and its gradient with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from l2s_core.classifier.labels import Labels, classes_of
from l2s_core.relations import DIAGONALS, LABELS, label_index


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """A move of maps_BOMGG, and labels_R: the index in LABELS that each label becomes."""

    move: Callable[[Tensor], Tensor]
    labels_R: Tensor


def _mirror_x(maps_BOMGG: Tensor) -> Tensor:
    return maps_BOMGG.flip(-1)


def _mirror_y(maps_BOMGG: Tensor) -> Tensor:
    return maps_BOMGG.flip(-2)


def _transpose(maps_BOMGG: Tensor) -> Tensor:
    return maps_BOMGG.transpose(-1, -2)


def _exchange(maps_BOMGG: Tensor) -> Tensor:
    return maps_BOMGG.flip(-4)


def _swapped(*pairs: tuple[str, str]) -> Tensor:
    """Return labels_R in which the labels of each pair have changed places."""
    labels_R = torch.arange(len(LABELS))
    for a, b in pairs:
        labels_R[label_index(a)] = label_index(b)
        labels_R[label_index(b)] = label_index(a)
    return labels_R


SYMMETRIES: tuple[Symmetry, ...] = (
    Symmetry(move=_mirror_x, labels_R=_swapped(("left of", "right of"))),
    Symmetry(move=_mirror_y, labels_R=_swapped(("above", "below"))),
    Symmetry(move=_transpose, labels_R=_swapped(("left of", "above"), ("right of", "below"))),
    Symmetry(move=_exchange, labels_R=_swapped(("left of", "right of"), ("above", "below"))),
)
"""What generates the group."""


def augment(maps_BOMGG: Tensor, truth_BR: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Apply to every record its own random element of the symmetry group; returns new maps and what is true of them.

    Where several labels are true, each becomes another one: every symmetry is its own inverse, so that the label r is
    true of the moved maps where `labels_R[r]` is true of the maps.
    """
    coins_4B = torch.rand(len(SYMMETRIES), len(truth_BR), generator=generator) < 0.5
    for coin_B, symmetry in zip(coins_4B, SYMMETRIES, strict=True):
        here_B1111 = coin_B.view(-1, 1, 1, 1, 1).to(maps_BOMGG.device)
        maps_BOMGG = torch.where(here_B1111, symmetry.move(maps_BOMGG), maps_BOMGG)
        moved_BR = truth_BR[:, symmetry.labels_R[: truth_BR.shape[1]].to(truth_BR.device)]
        truth_BR = torch.where(coin_B.unsqueeze(1).to(truth_BR.device), moved_BR, truth_BR)
    return maps_BOMGG, truth_BR


class GroupAverage(nn.Module):
    """A classifier whose logits are the mean over all 16 symmetries of its input; while training, the classifier alone.

    Moving the maps by a symmetry moves the logits by the same, exactly (group averaging; Yarotsky 2018,
    arXiv 1804.10306, section 2). The denoiser is what steering pays for, so 16 small passes cost little.
    """

    def __init__(self, classifier: nn.Module, labels: Labels = Labels.SINGLE) -> None:
        super().__init__()
        self.classifier = classifier
        self.labels = labels

    def forward(self, maps_BOMGG: Tensor, capture_index_B: Tensor) -> Tensor:
        if self.training:
            answer: Tensor = self.classifier(maps_BOMGG, capture_index_B)
            return answer
        views = []
        labels = []
        for chosen in product((False, True), repeat=len(SYMMETRIES)):
            view = maps_BOMGG
            label_R = torch.arange(len(LABELS))
            for use, symmetry in zip(chosen, SYMMETRIES, strict=True):
                if use:
                    view = symmetry.move(view)
                    label_R = symmetry.labels_R[label_R]
            views.append(view)
            labels.append(label_R)
        logits_NR = self.classifier(torch.cat(views), capture_index_B.repeat(len(views)))  # N = views x batch
        count = logits_NR.shape[-1]
        logits_VBR = logits_NR.reshape(len(views), len(maps_BOMGG), count)
        back = [
            logits_BR[:, self._moved(label_R, count).to(logits_BR.device)]
            for logits_BR, label_R in zip(logits_VBR, labels, strict=True)
        ]
        return torch.stack(back).mean(0)

    def _moved(self, label_R: Tensor, count: int) -> Tensor:
        """Return the index that each of `count` logits becomes where labels become label_R."""
        if self.labels is not Labels.POWERSET:
            return label_R[:count]
        held_CR = classes_of(count - len(DIAGONALS))
        moved_CR = torch.empty_like(held_CR)
        moved_CR[:, label_R[: held_CR.shape[1]]] = held_CR
        return (moved_CR.unsqueeze(1) == held_CR).all(-1).long().argmax(-1)
