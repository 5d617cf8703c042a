"""The maps by the straightforward way, to check the fast one against: every probability of the model's own calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from l2s_core.attention.pooling import pool_maps
from l2s_core.attention.probabilities import phrase_attention_reference

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
    calls: Sequence[Call], weights_BOK: Tensor, *, pixels: int, text_first: bool, softmax: str = "text", grid: int = 16
) -> Tensor:
    """Return maps_BOMGG of watched calls, storing every (H, P, K) tensor in float32.

    Self-attention over `pixels` image tokens or fewer is left out. A call over image and text together is cut
    apart by its layout: FLUX has the text first, SD3 the image, and a UNet's cross-attention no image keys.
    """
    words = weights_BOK.shape[-1]
    maps = []
    for query, key, mask in calls:
        tokens = query.shape[2]
        keys = key.shape[2]
        if keys == tokens and tokens != pixels + words:
            continue
        if keys == tokens:
            if mask is not None:
                raise ValueError("the reference does not know the layout of a mask over image and text together")
            start, end = (words, words + pixels) if text_first else (0, pixels)
            query = query[:, :, start:end]
            image = key[:, :, start:end]
            text = key[:, :, :words] if text_first else key[:, :, pixels:]
            key = torch.cat([text, image], dim=2) if softmax == "joint" else text
        maps.append(phrase_attention_reference(query, key, weights_BOK, mask))
    return pool_maps(maps, grid)
