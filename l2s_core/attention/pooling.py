"""From per-layer maps to the fixed grid the classifier reads; used by dataset capture and by steering."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from l2s_core.sizes import SQUARE, Size, sides, size_of

LEAST_CELLS = 2  # of a grid's shorter side


def grid_over(longer: int, image: tuple[int, int]) -> Size:
    """Return the grid whose longer side has `longer` cells, over an image, or latents, of (height, width) `image`.

    The shorter side has the number of cells that makes them most nearly square, and at least 2.
    """
    long = max(image)
    rows, columns = (max(LEAST_CELLS, (2 * longer * side + long) // (2 * long)) for side in image)
    return size_of(rows, columns)


def map_sides(places: int, latents: Size) -> tuple[int, int]:
    """Return the (rows, columns) of attention over `places` image tokens of a model with such latents.

    A token is of k x k latents, k a whole number; the last ones of a side may be of fewer, as where a UNet halves an
    odd number. Of square latents it may be any square number of tokens. Raises ValueError where there is no such k.
    """
    height, width = sides(latents)
    if height == width:
        side = isqrt(places)
        if side * side == places:
            return side, side
    for k in range(1, max(height, width) + 1):
        rows, columns = -(-height // k), -(-width // k)
        if rows * columns == places:
            return rows, columns
    shape = "square" if height == width else f"{height} x {width}"
    raise ValueError(f"attention over {places} image tokens is no map of {shape} latents")


def pool_maps(
    layer_maps: Sequence[Tensor],
    grid: Size,
    *,
    latents: Size = SQUARE,
    antialias: bool = True,
    normalize: bool = True,
) -> Tensor:
    """Resize every map to `grid` cells (bilinear), renormalise it to sum 1 unless told not to, and stack all heads.

    A map that is larger than the grid is smoothed first, unless `antialias` is off: a cell then is the mean of at most
    four pixels around its centre, whatever lies between.

    Takes one maps_BHOP per layer (P image tokens, row by row, of a model whose latents have the size `latents`);
    returns maps_BOMGG with M = sum of the layers' heads, in layer order.
    """
    cells = sides(grid)
    pooled = []
    for maps_BHOP in layer_maps:
        batch, heads, phrases, places = maps_BHOP.shape
        shape = map_sides(places, latents)
        maps = maps_BHOP.reshape(batch, heads * phrases, *shape)
        if shape != cells:
            larger = any(side > cell for side, cell in zip(shape, cells, strict=True))
            maps = interpolate(maps, size=cells, mode="bilinear", align_corners=False, antialias=antialias and larger)
        maps_BHOGG = maps.reshape(batch, heads, phrases, *cells)
        pooled.append(maps_BHOGG.transpose(1, 2))
    maps_BOMGG = torch.cat(pooled, dim=2)
    if not normalize:
        return maps_BOMGG
    # a head that looks away from a phrase leaves it 1e-15 and less, whose map is as good as any other
    sums = maps_BOMGG.sum(dim=(-1, -2), keepdim=True)
    return maps_BOMGG / sums.clamp_min(torch.finfo(sums.dtype).tiny)
