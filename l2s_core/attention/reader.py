"""One pass of a model, without guidance, that gives the attention maps of the prompts' phrases."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from l2s_core.attention.capture import AttentionCapture
from l2s_core.attention.layers import AttentionModel, select_layers
from l2s_core.attention.pooling import grid_over, pool_maps
from l2s_core.diffusion.condition import Condition
from l2s_core.sizes import Size, size_of


class AttentionReader:
    """Reads the phrases' attention in the layers of a model that match any shell-style pattern of `layers`.

    `softmax` is "text" or "joint" (see `AttentionModel.layers`). A map's longer side has `grid` cells, its shorter
    one as many as keep them square (`grid_over`); a `grid` of two sides is taken as it is. Each map sums to 1, or
    with `normalize=False` is the attention itself, a probability a cell. `antialias` is `pool_maps`'s. Raises UserError
    where no layer matches. The maps stand in the layers' order; with `order` "side" those of the smallest attention
    come first, and those of one side stand in the layers' order.

    A pass runs without guidance, whatever the condition says: dataset, steering and scores read the same maps. With
    `guidance`, a model that has it as an input gets that one.
    Maps are differentiable in the latents where gradients are enabled.
    """

    def __init__(
        self,
        model: AttentionModel,
        *,
        layers: Sequence[str] = ("*",),
        softmax: str = "text",
        grid: Size = 16,
        antialias: bool = True,
        normalize: bool = True,
        order: str = "layers",
        guidance: float | None = None,
    ) -> None:
        self.model = model
        self.grid = grid
        self.antialias = antialias
        self.normalize = normalize
        self.order = order
        self.guidance = guidance
        self.layers = select_layers(model.layers(softmax), layers)
        self._capture = AttentionCapture(self.layers)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the layers that are read, in the model's order."""
        return tuple(layer.name for layer in self.layers)

    @property
    def channels(self) -> int:
        """Number of maps a phrase gets: heads summed over layers."""
        return sum(layer.heads for layer in self.layers)

    def read(self, latents: Tensor, timestep: float, condition: Condition, weights_BOK: Tensor) -> Tensor:
        """Return maps_BOMGG; the pass ends after the last layer that is read."""
        forward = partial(self.model.predict, latents, timestep, condition.unguided(embedded=self.guidance))
        with self._capture.recording(weights_BOK, stop_early=True):
            self._capture.run(forward)
        return self._maps(latents)

    def read_and_predict(
        self, latents: Tensor, timestep: float, condition: Condition, weights_BOK: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return maps_BOMGG and the prediction of the same pass, without guidance."""
        with self._capture.recording(weights_BOK):
            prediction = self.model.predict(latents, timestep, condition.unguided(embedded=self.guidance))
        return self._maps(latents), prediction

    def _maps(self, latents: Tensor) -> Tensor:
        layer_maps = self._capture.layer_maps()
        if self.order == "side":
            layer_maps = sorted(layer_maps, key=lambda maps_BHOP: maps_BHOP.shape[-1])
        height, width = latents.shape[-2:]
        return pool_maps(
            layer_maps,
            grid_over(self.grid, (height, width)) if isinstance(self.grid, int) else self.grid,
            latents=size_of(height, width),
            antialias=self.antialias,
            normalize=self.normalize,
        )
