"""What is read of a pair of phrases: its own maps, and with context those of the phrase before them."""

from __future__ import annotations

import torch
from torch import Tensor


def pair_maps(maps_BOMGG: Tensor, image_P: Tensor, phrases_P2: Tensor, context: bool = False) -> Tensor:
    """Return maps_P2MGG of P pairs: of the prompts at `image_P`, the two phrases at `phrases_P2`.

    With `context` maps_P3MGG: the third are those of the phrase that stands before the pair, and zero where none does.
    A causal text encoder writes into a phrase what stands before it, so that the maps of an object also show those
    objects; the third says where they are.
    """
    maps_P2MGG = maps_BOMGG[image_P.unsqueeze(1), phrases_P2]
    if not context:
        return maps_P2MGG
    first_P = phrases_P2.min(1).values
    before_PMGG = maps_BOMGG[image_P, (first_P - 1).clamp_min(0)] * (first_P > 0).view(-1, 1, 1, 1)
    return torch.cat([maps_P2MGG, before_PMGG.unsqueeze(1)], dim=1)
