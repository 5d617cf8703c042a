"""The maps by the straightforward way, to check the fast one against: every probability of the model's own calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from l2s_core.attention.pooling import grid_over, pool_maps
from l2s_core.attention.probabilities import phrase_attention_reference
from l2s_core.sizes import size_of

Call = tuple[Tensor, Tensor, Tensor | None]
"""(query_BHPD, key_BHKD, mask) as a model hands them to torch's attention."""


@contextmanager
def watching_attention() -> Iterator[list[Call]]:
    """Yield the list of attention calls that the block makes, of every kind, in their order."""
    calls: list[Call] = []
    real = functional.scaled_dot_product_attention

    def watch(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **options: Any
    ) -> Tensor:
        calls.append((query, key, attn_mask))
        return real(query, key, value, attn_mask, *rest, **options)

    functional.scaled_dot_product_attention = watch
    try:
        yield calls
    finally:
        functional.scaled_dot_product_attention = real


def reference_maps(
    calls: Sequence[Call],
    weights_BOK: Tensor,
    *,
    latents: tuple[int, int],
    patch: int,
    text_first: bool,
    softmax: str = "text",
    grid: int = 16,
) -> Tensor:
    """Return maps_BOMGG of watched calls, storing every (H, P, K) tensor in float32.

    The model makes an image token of `patch` x `patch` latents, of (height, width) `latents`. Self-attention over as
    many image tokens or fewer is left out. A call over image and text together is cut
    apart by its layout, with its mask: FLUX has the text first, SD3 the image, and a UNet's cross-attention no image
    keys.
    """
    pixels = (latents[0] // patch) * (latents[1] // patch)
    maps = []
    for query, key, mask in calls:
        tokens = query.shape[2]
        if key.shape[2] == tokens:
            if tokens <= pixels:
                continue
            places = torch.arange(tokens)
            first = tokens - pixels if text_first else pixels
            text, image = (places[:first], places[first:]) if text_first else (places[first:], places[:first])
            keys = torch.cat([text, image]) if softmax == "joint" else text
            query = query[:, :, image]
            key = key[:, :, keys]
            if mask is not None:
                mask = mask.expand(*mask.shape[:2], tokens, tokens)[:, :, image][..., keys]
        maps.append(phrase_attention_reference(query, key, weights_BOK, mask))
    return pool_maps(maps, grid_over(grid, latents), latents=size_of(*latents))
