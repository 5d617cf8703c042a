"""The exact symmetries of the four spatial relations: mirrored maps mean mirrored relations.

Mirroring an image left-right turns "left of" into "right of" and leaves the vertical relations; so for
up-down, for transposing, and for exchanging subject and object. Applied at random to training batches
they multiply the data sixteenfold, and, since a mirrored map keeps whatever a wrong word left in its
texture while its label changes, they also take the profit out of reading the word.

An attribute and its object stay what they are, in whatever mirror: every symmetry leaves "is" in place.

Averaging a classifier's answers over the whole group makes it exactly equivariant, and its gradient with it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from l2s_core.relations import LABELS, RELATIONS

_LEFT, _RIGHT, _ABOVE, _BELOW = (RELATIONS.index(name) for name in ("left of", "right of", "above", "below"))


def _permutation(*pairs: tuple[int, int]) -> Tensor:
    table = torch.arange(len(RELATIONS))
    for a, b in pairs:
        table[a], table[b] = b, a
    return table


MIRROR_X = _permutation((_LEFT, _RIGHT))
MIRROR_Y = _permutation((_ABOVE, _BELOW))
TRANSPOSE = _permutation((_LEFT, _ABOVE), (_RIGHT, _BELOW))
EXCHANGE = _permutation((_LEFT, _RIGHT), (_ABOVE, _BELOW))


ACTIONS: tuple[tuple[Callable[[Tensor], Tensor], Tensor], ...] = (
    (lambda maps: maps.flip(-1), MIRROR_X),
    (lambda maps: maps.flip(-2), MIRROR_Y),
    (lambda maps: maps.transpose(-1, -2), TRANSPOSE),
    (lambda maps: maps.flip(-4), EXCHANGE),
)
"""What generates the group: a move of maps_BOMGG, and the label that each spatial label becomes."""

_OTHERS = torch.arange(len(RELATIONS), len(LABELS))
_ACTIONS = tuple(
    (move, torch.cat([relabel, _OTHERS])) for move, relabel in ACTIONS
)  # of all labels: the others stay what they are


def augment(maps_BOMGG: Tensor, label_B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Apply to every record its own random element of the symmetry group; returns new maps and labels."""
    coins_4B = torch.rand(4, len(label_B), generator=generator) < 0.5
    for coin_B, (move, relabel) in zip(coins_4B, _ACTIONS, strict=True):
        maps_BOMGG = torch.where(coin_B.view(-1, 1, 1, 1, 1).to(maps_BOMGG.device), move(maps_BOMGG), maps_BOMGG)
        label_B = torch.where(coin_B.to(label_B.device), relabel.to(label_B.device)[label_B], label_B)
    return maps_BOMGG, label_B


class GroupAverage(nn.Module):
    """A classifier whose logits are the mean over all 16 symmetries of its input; while training, the classifier alone.

    Moving the maps by a symmetry moves the logits by the same, exactly (group averaging; Yarotsky 2018,
    arXiv 1804.10306, section 2). The denoiser is what steering pays for, so 16 small passes cost little.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, maps_BOMGG: Tensor, capture_index_B: Tensor) -> Tensor:
        if self.training:
            return self.classifier(maps_BOMGG, capture_index_B)
        views, labels = [], []
        for coins in product((False, True), repeat=len(ACTIONS)):
            view, label_R = maps_BOMGG, torch.arange(len(LABELS))
            for coin, (move, relabel) in zip(coins, _ACTIONS, strict=True):
                if coin:
                    view, label_R = move(view), relabel[label_R]
            views.append(view)
            labels.append(label_R)
        logits_VBR = self.classifier(torch.cat(views), capture_index_B.repeat(len(views))).unflatten(
            0, (len(views), -1)
        )
        count = logits_VBR.shape[-1]
        return torch.stack(
            [logits_BR[:, label_R[:count].to(logits_BR.device)] for logits_BR, label_R in zip(logits_VBR, labels)]
        ).mean(0)
