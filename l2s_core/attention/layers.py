"""The layers of a model in which image tokens attend to text: what one is, and which are chosen."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from l2s_core.diffusion.denoiser import Predictor
from l2s_core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AttentionLayer:
    """A layer in which image tokens attend to text tokens.

    `sources` are the modules whose outputs its attention is made of, in the order the forward pass calls
    them; `read(*outputs)` turns those outputs into (query_BHPD, key_BHKD), the text keys first. `masked` is the module
    whose call has the mask of the text as its argument `attention_mask`, (B, 1, K), added to the logits; None where the
    model has no mask.
    """

    name: str
    heads: int
    sources: tuple[nn.Module, ...]
    read: Callable[..., tuple[Tensor, Tensor]]
    masked: nn.Module | None = None


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


def split_projections(heads: int, query_BPE: Tensor, key_BKE: Tensor) -> tuple[Tensor, Tensor]:
    """Return (query_BHPD, key_BHKD) of the outputs of two projections: what a cross-attention layer reads."""
    return split_heads(query_BPE, heads), split_heads(key_BKE, heads)
