"""From per-layer maps to the fixed grid the classifier reads; used by dataset capture and by steering."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def pool_maps(layer_maps: Sequence[Tensor], grid: int, *, antialias: bool = True, normalize: bool = True) -> Tensor:
    """Resize every map to `grid` x `grid` (bilinear), renormalise it to sum 1 unless told not to, and stack all heads.

    A map that is larger than the grid is smoothed first, unless `antialias` is off: a cell then is the mean of at most
    four pixels around its centre, whatever lies between.

    Takes one maps_BHOP per layer (P = side x side pixels, row-major); returns maps_BOMGG with
    M = sum of the layers' heads, in layer order.
    """
    pooled = []
    for maps_BHOP in layer_maps:
        batch, heads, phrases, pixels = maps_BHOP.shape
        side = round(pixels**0.5)
        if side * side != pixels:
            raise ValueError(f"attention over {pixels} pixels is not a square map")
        maps = maps_BHOP.reshape(batch, heads * phrases, side, side)
        if side != grid:
            maps = interpolate(
                maps, size=(grid, grid), mode="bilinear", align_corners=False, antialias=antialias and side > grid
            )
        maps_BHOGG = maps.reshape(batch, heads, phrases, grid, grid)
        pooled.append(maps_BHOGG.transpose(1, 2))
    maps_BOMGG = torch.cat(pooled, dim=2)
    if not normalize:
        return maps_BOMGG
    return maps_BOMGG / maps_BOMGG.sum(dim=(-1, -2), keepdim=True).clamp_min(1e-12)
