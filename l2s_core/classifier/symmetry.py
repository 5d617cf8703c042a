"""The exact symmetries of the four relations: mirrored maps mean mirrored relations.

Mirroring an image left-right turns "left of" into "right of" and leaves the vertical relations; so for
up-down, for transposing, and for exchanging subject and object. Applied at random to training batches
they multiply the data sixteenfold, and, since a mirrored map keeps whatever a wrong word left in its
texture while its label changes, they also take the profit out of reading the word.
"""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_core.relations import RELATIONS

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


def augment(maps_BOMGG: Tensor, label_B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Apply to every record its own random element of the symmetry group; returns new maps and labels."""
    coins_4B = torch.rand(4, len(label_B), generator=generator) < 0.5
    actions = (
        (lambda m: m.flip(-1), MIRROR_X),
        (lambda m: m.flip(-2), MIRROR_Y),
        (lambda m: m.transpose(-1, -2), TRANSPOSE),
        (lambda m: m.flip(1), EXCHANGE),
    )
    for coin_B, (move, relabel) in zip(coins_4B, actions, strict=True):
        maps_BOMGG = torch.where(coin_B.view(-1, 1, 1, 1, 1).to(maps_BOMGG.device), move(maps_BOMGG), maps_BOMGG)
        label_B = torch.where(coin_B.to(label_B.device), relabel.to(label_B.device)[label_B], label_B)
    return maps_BOMGG, label_B
