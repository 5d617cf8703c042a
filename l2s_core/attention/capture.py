"""Recording phrase attention during a forward pass, leaving the pass itself untouched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from inspect import Parameter, signature
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from l2s_core.attention.layers import AttentionLayer
from l2s_core.attention.probabilities import phrase_attention

Result = TypeVar("Result")
Hook = Callable[[nn.Module, Any, Tensor], None]


class _LastLayerReached(Exception):
    """Ends a forward pass that has nothing left to record."""


class AttentionCapture:
    """Records the attention of one forward pass to the phrases given by weights_BOK; `AttentionReader` uses it.

    Hooks read what the model itself computes (the outputs of its query and key projections or norms), so
    the model's output is bit-identical with and without capture, whatever attention kernel it uses.

    Without gradients only the phrases' maps of a layer are kept. With gradients the outputs themselves
    are, and the maps are computed by `layer_maps()`, outside the forward pass: so the model may checkpoint its
    activations (a hook's own computation would be missing when a block is computed again).

    Modules that torch.compile has compiled run as they were written while a capture records: compiled code sees no hook
    that came later. Every other pass runs compiled.

    Use::

        with capture.recording(weights_BOK):
            capture.run(lambda: unet(...))
        maps_BHOP = capture.layer_maps()[0]
    """

    def __init__(self, layers: Sequence[AttentionLayer]) -> None:
        if not layers:
            raise ValueError("nothing to capture: no layers given")
        self.layers = list(layers)
        self._recorded: dict[str, Callable[[], Tensor]] = {}
        self._weights_BOK: Tensor | None = None

    @contextmanager
    def recording(self, weights_BOK: Tensor, *, stop_early: bool = False) -> Iterator[None]:
        """Install the hooks for the length of the block; always removes them; refuses nesting.

        With `stop_early` the forward pass ends after the last recorded layer.
        """
        if self._weights_BOK is not None:
            raise RuntimeError("attention capture is already recording; captures do not nest")
        self._weights_BOK = weights_BOK
        self._recorded = {}
        handles = []
        try:
            for layer in self.layers:
                outputs: list[Tensor] = []
                named: dict[str, Any] = {}
                *first, last = layer.sources
                stops = stop_early and layer is self.layers[-1]
                if layer.called is not None:
                    kept = _keep_named(named, layer.read)
                    handles.append(layer.called.register_forward_pre_hook(kept, with_kwargs=True))
                handles += [module.register_forward_hook(_keep(outputs)) for module in first]
                handles.append(last.register_forward_hook(self._record(layer, outputs, named, weights_BOK, stops)))
            with _not_compiled():
                yield
        finally:
            for handle in handles:
                handle.remove()
            self._weights_BOK = None

    def run(self, forward: Callable[[], Result]) -> Result | None:
        """Call `forward()`; return its result, or None when it was stopped after the last layer."""
        try:
            return forward()
        except _LastLayerReached:
            return None

    def layer_maps(self) -> list[Tensor]:
        """Return maps_BHOP of every layer of the recorded pass; raises RuntimeError for a layer it never reached."""
        missing = [layer.name for layer in self.layers if layer.name not in self._recorded]
        if missing:
            raise RuntimeError(f"the forward pass never reached {missing}")
        return [self._recorded[layer.name]() for layer in self.layers]

    def _record(
        self, layer: AttentionLayer, outputs: list[Tensor], named: dict[str, Any], weights_BOK: Tensor, stops: bool
    ) -> Hook:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            compute = partial(_maps_of, layer, (*outputs, output), dict(named), weights_BOK)
            outputs.clear()
            named.clear()
            if not torch.is_grad_enabled():
                maps_BHOP = compute()
                self._recorded[layer.name] = lambda: maps_BHOP
            else:
                self._recorded[layer.name] = compute
            if stops:
                raise _LastLayerReached

        return hook


def _not_compiled() -> AbstractContextManager[object]:
    """Modules run as they were written; without torch's compiler, which is slow to import, there is nothing to do."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _keep(outputs: list[Tensor]) -> Hook:
    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        outputs.append(output)

    return hook


def _keep_named(
    kept: dict[str, Any], read: Callable[..., object]
) -> Callable[[nn.Module, Any, Mapping[str, Any]], None]:
    """Keep the arguments that `read` asks for alone: hidden states would stay in memory until the maps are computed."""
    asked = signature(read).parameters.values()
    everything = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in asked)
    names = {parameter.name for parameter in asked if parameter.kind is Parameter.KEYWORD_ONLY}

    def hook(_module: nn.Module, _inputs: Any, named: Mapping[str, Any]) -> None:
        kept.update({name: value for name, value in named.items() if everything or name in names})

    return hook


def _maps_of(
    layer: AttentionLayer, outputs: tuple[Tensor, ...], named: Mapping[str, Any], weights_BOK: Tensor
) -> Tensor:
    query_BHPD, key_BHKD, mask_B1K = layer.read(*outputs, **named)
    return phrase_attention(query_BHPD, key_BHKD, weights_BOK, mask_B1K)
