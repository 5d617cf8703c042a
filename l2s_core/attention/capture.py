"""Recording phrase attention during a forward pass, leaving the pass itself untouched."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from l2s_core.attention.pooling import pool_maps
from l2s_core.attention.probabilities import phrase_attention
from l2s_core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AttentionLayer:
    """A layer in which image tokens attend to text tokens.

    `sources` are the modules whose outputs its attention is made of, in the order the forward pass calls
    them; `read(*outputs)` turns those outputs into (query_BHPD, key_BHKD), the text keys first.
    """

    name: str
    heads: int
    sources: tuple[nn.Module, ...]
    read: Callable[..., tuple[Tensor, Tensor]]


def select_layers(layers: Sequence[AttentionLayer], patterns: Sequence[str]) -> list[AttentionLayer]:
    """Return, in model order, the layers whose name matches any shell-style pattern; none is an error."""
    chosen = [layer for layer in layers if any(fnmatch.fnmatchcase(layer.name, p) for p in patterns)]
    if not chosen:
        names = ", ".join(layer.name for layer in layers)
        raise UserError(f"no cross-attention layer matches {list(patterns)}; allowed names: {names}")
    return chosen


class _LastLayerReached(Exception):
    """Ends a forward pass that has nothing left to record."""


class AttentionCapture:
    """Records the attention of one forward pass to the phrases given by weights_BOK.

    Hooks read what the model itself computes (the outputs of its query and key projections or norms), so
    the model's output is bit-identical with and without capture, whatever attention kernel it uses. With
    `stop_early` the forward pass ends after the last recorded layer.

    Without gradients only the phrases' maps of a layer are kept. With gradients the outputs themselves
    are, and the maps are computed by `maps()`, outside the forward pass: so the model may checkpoint its
    activations (a hook's own computation would be missing when a block is computed again).

    Use::

        with capture.recording(weights_BOK):
            capture.run(lambda: unet(...))
        maps_BOMGG = capture.maps()
    """

    def __init__(self, layers: Sequence[AttentionLayer], *, grid: int, stop_early: bool = False) -> None:
        if not layers:
            raise ValueError("nothing to capture: no layers given")
        self.layers, self.grid, self.stop_early = list(layers), grid, stop_early
        self._recorded: dict[str, Callable[[], Tensor]] = {}
        self._weights_BOK: Tensor | None = None

    @property
    def channels(self) -> int:
        """Number of maps a phrase gets: heads summed over layers."""
        return sum(layer.heads for layer in self.layers)

    @contextmanager
    def recording(self, weights_BOK: Tensor):
        """Install the hooks for the length of the block; always removes them; refuses nesting."""
        if self._weights_BOK is not None:
            raise RuntimeError("attention capture is already recording; captures do not nest")
        self._weights_BOK, self._recorded = weights_BOK, {}
        handles = []
        try:
            for layer in self.layers:
                outputs: list[Tensor] = []
                *first, last = layer.sources
                handles += [module.register_forward_hook(self._keep(outputs)) for module in first]
                handles.append(last.register_forward_hook(self._record(layer, outputs)))
            yield self
        finally:
            for handle in handles:
                handle.remove()
            self._weights_BOK = None

    def run(self, forward):
        """Call `forward()`; return its result, or None when it was stopped after the last layer."""
        try:
            return forward()
        except _LastLayerReached:
            return None

    def maps(self, *, normalize: bool = True) -> Tensor:
        """Return maps_BOMGG of the recorded pass, each map summing to 1, or the attention as it is."""
        missing = [layer.name for layer in self.layers if layer.name not in self._recorded]
        if missing:
            raise RuntimeError(f"the forward pass never reached {missing}")
        return pool_maps([self._recorded[layer.name]() for layer in self.layers], self.grid, normalize=normalize)

    def _keep(self, outputs: list[Tensor]):
        def hook(_module, _inputs, output: Tensor) -> None:
            outputs.append(output)

        return hook

    def _record(self, layer: AttentionLayer, outputs: list[Tensor]):
        weights_BOK = self._weights_BOK

        def hook(_module, _inputs, output: Tensor) -> None:
            compute = partial(_maps_of, layer, (*outputs, output), weights_BOK)
            outputs.clear()
            if not torch.is_grad_enabled():
                maps_BHOP = compute()
                self._recorded[layer.name] = lambda: maps_BHOP
            else:
                self._recorded[layer.name] = compute
            if self.stop_early and layer is self.layers[-1]:
                raise _LastLayerReached

        return hook


def _maps_of(layer: AttentionLayer, outputs: tuple[Tensor, ...], weights_BOK: Tensor) -> Tensor:
    return phrase_attention(*layer.read(*outputs), weights_BOK)


def split_heads(tensor_BNE: Tensor, heads: int) -> Tensor:
    """(B, N, H D) to (B, H, N, D)."""
    return tensor_BNE.unflatten(-1, (heads, -1)).transpose(1, 2)
