"""What is read of a pair of phrases: its own maps, and beside them those of whatever else the prompt names."""

from __future__ import annotations

import torch
from torch import Tensor


def pair_maps(maps_BOMGG: Tensor, image_P: Tensor, phrases_P2: Tensor, objects_B: Tensor | None = None) -> Tensor:
    """Return maps_P2MGG of P pairs: of the prompts at `image_P`, the two phrases at `phrases_P2`.

    With `objects_B`, how many of the O phrases a prompt has, maps_P3MGG: the third is the mean of the maps of the
    prompt's other phrases, and zero where there is none. A text encoder writes into a phrase what stands before it, so
    that the maps of an object also show its neighbours; the third says where those are.
    """
    maps_P2MGG = maps_BOMGG[image_P.unsqueeze(1), phrases_P2]
    if objects_B is None:
        return maps_P2MGG
    place_O = torch.arange(maps_BOMGG.shape[1], device=maps_BOMGG.device)
    other_PO = place_O < objects_B[image_P].unsqueeze(1)
    other_PO = other_PO & (place_O != phrases_P2[:, :1]) & (place_O != phrases_P2[:, 1:])
    share_PO = other_PO / other_PO.sum(1, keepdim=True).clamp_min(1)
    context_PMGG = torch.einsum("po,pomgh->pmgh", share_PO.to(maps_BOMGG), maps_BOMGG[image_P])
    return torch.cat([maps_P2MGG, context_PMGG.unsqueeze(1)], dim=1)
