"""The layers of a model in which image tokens attend to text: what one is, and which are chosen."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from l2s_core.diffusion.denoiser import Predictor
from l2s_core.errors import UserError


class AttentionInputs(NamedTuple):
    """What a layer's attention to text is computed from: image queries, the keys, and the mask of the keys.

    The mask is added to the logits or, of booleans, true of the keys that count; None where all do.
    """

    query_BHPD: Tensor
    key_BHKD: Tensor
    mask_B1K: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class AttentionLayer:
    """A layer in which image tokens attend to text tokens.

    `sources` are the modules whose outputs its attention is made of, in the order the forward pass calls
    them; `read(*outputs, **named)` turns those outputs into `AttentionInputs`, the text keys first. `named` are those
    keyword arguments that the forward pass calls the module `called` with, such as a mask of the text, which `read`
    has as its own; there are none where `called` is None.
    """

    name: str
    heads: int
    sources: tuple[nn.Module, ...]
    read: Callable[..., AttentionInputs]
    called: nn.Module | None = None


class AttentionModel(Predictor, Protocol):
    """A model whose attention can be read."""

    def layers(self, softmax: str = "text") -> list[AttentionLayer]:
        """Every layer in which image tokens attend to text, in the order the forward pass reaches them.

        Softmax over the text keys alone ("text"), or over text and image keys where a model has both in
        one row ("joint").
        """
        ...


def select_layers(layers: Sequence[AttentionLayer], patterns: Sequence[str]) -> list[AttentionLayer]:
    """Return, in model order, the layers whose name matches any shell-style pattern.

    Raises UserError for a pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in layers):
            names = ", ".join(layer.name for layer in layers)
            raise UserError(f"no cross-attention layer matches {pattern!r} of capture.layers; allowed names: {names}")
    return [layer for layer in layers if any(fnmatch.fnmatchcase(layer.name, p) for p in patterns)]


def split_heads(tensor_BNE: Tensor, heads: int) -> Tensor:
    """(B, N, H D) to (B, H, N, D)."""
    batch, tokens, width = tensor_BNE.shape
    return tensor_BNE.view(batch, tokens, heads, width // heads).transpose(1, 2)


def split_projections(
    heads: int, query_BPE: Tensor, key_BKE: Tensor, *, attention_mask: Tensor | None = None
) -> AttentionInputs:
    """Return what a cross-attention layer reads, of the outputs of its two projections and its mask (B, 1, K)."""
    return AttentionInputs(split_heads(query_BPE, heads), split_heads(key_BKE, heads), attention_mask)
