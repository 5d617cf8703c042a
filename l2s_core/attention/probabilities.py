"""Attention paid to phrases, without ever storing the attention matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def phrase_attention(
    query_BHPD: Tensor, key_BHKD: Tensor, weights_BOK: Tensor, mask_B1K: Tensor | None = None
) -> Tensor:
    """Return maps_BHOP: the attention of every image token to each phrase, softmax over the keys.

    With probabilities A = softmax(q k^T / sqrt(D) + mask), phrase o receives sum_k A_pk w_ok. That is an
    attention call whose *values* are the phrase weights, so the fused kernel computes it, gradients
    included, and no (H, P, K) tensor is stored. Values are padded to D so that every fused kernel
    accepts them. Computed in float32, or in float64 where the query is. Keys beyond the weights'
    (image tokens, in a joint softmax) take their share of the attention and belong to no phrase; weights beyond the
    keys are of padding that the model left out, and 0.

    Shapes: query (B, H, P, D), key (B, H, K, D), weights (B, O, any number of tokens) with O <= D, mask (B, 1, K),
    added to the logits or, of booleans, true of the keys that count.
    """
    query = query_BHPD.to(torch.promote_types(query_BHPD.dtype, torch.float32))
    key = key_BHKD.to(query)
    heads, keys, width = key.shape[1:]
    values_BKO = weights_BOK[..., :keys].to(query).transpose(1, 2)
    known, phrases = values_BKO.shape[1:]
    values_BKD = functional.pad(values_BKO, (0, max(0, width - phrases), 0, keys - known))
    values_BHKD = values_BKD.unsqueeze(1).expand(-1, heads, -1, -1)
    mask = None if mask_B1K is None else mask_B1K.unsqueeze(1)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(query)
    attention = functional.scaled_dot_product_attention(query, key, values_BHKD, attn_mask=mask)
    return attention[..., :phrases].transpose(2, 3)


def phrase_attention_reference(
    query_BHPD: Tensor, key_BHKD: Tensor, weights_BOK: Tensor, mask: Tensor | None = None
) -> Tensor:
    """The same by its definition, storing everything: what the tests compare against.

    `mask` is that of torch's attention: added to the logits, or true of the keys that count.
    """
    logits_BHPK = query_BHPD.float() @ key_BHKD.float().transpose(-1, -2) / query_BHPD.shape[-1] ** 0.5
    if mask is not None:
        logits_BHPK = logits_BHPK.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits_BHPK + mask
    known = min(logits_BHPK.shape[-1], weights_BOK.shape[-1])
    probabilities_BHPK = logits_BHPK.softmax(-1)[..., :known]
    return torch.einsum("bhpk,bok->bhop", probabilities_BHPK, weights_BOK[..., :known].to(logits_BHPK))
