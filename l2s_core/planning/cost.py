"""What a model costs, counted without its weights: the same forward pass on tensors that have a shape and nothing else.

Usage: ``python -m l2s_core.planning.cost`` prints the paper's four and those of configs/backbones beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from l2s_core.attention.reader import AttentionReader
from l2s_core.backbones.architecture import load_architecture, random_backbone
from l2s_core.backbones.load import backbone_without_weights
from l2s_core.backbones.model import DiffusersModel, Placement
from l2s_core.config import BackboneConfig, CaptureConfig, RunConfig, load_run_config
from l2s_core.dataset.collect import map_source
from l2s_core.diffusion.condition import UNGUIDED, Condition
from l2s_core.prompts.prompt import prompt_for
from l2s_core.relations import Triplet

PROMPT = prompt_for(Triplet(subject="dog", relation="left of", object="cat"))
PAPER = ("sd14", "sd21", "flux-schnell", "flux-dev")
BEYOND = (
    "sd21-768",
    "sdxl",
    "sd35-medium",
    "pixart-sigma",
    "flux2-klein-4b",
    "flux2-klein-9b",
    "flux2-dev",
    "z-image-turbo",
    "sana",
    "sana-sprint",
    "qwen-image",
)
ANY_STEPS = {"capture.steps": [0], "steering.until_step": 1}  # no cost depends on which
LIVE_LARGEST = 4  # tensors of the largest size that a forward pass holds at once, about


@dataclass(frozen=True, kw_only=True)
class FileSizes:
    """What a run's files depend on: channels, cells and stacks of its maps, an image's latents and its pixels."""

    channels: int
    cells: int
    latents: int
    pixels: int
    stacks: int = 2


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """Costs of one image: floating-point operations, bytes of weights by component, bytes of activations.

    `gradient_flops` and `saved_bytes` are of one steering gradient: forward to the last captured layer, and back.
    """

    weights: dict[str, int]
    forward_flops: int
    guided_flops: int
    gradient_flops: int
    forward_bytes: int
    saved_bytes: int
    sizes: FileSizes


def count_cost(config: RunConfig) -> ModelCost:
    """Count the cost of a run's architecture; takes seconds for the largest one and no memory to speak of.

    Raises ValueError for a run without an architecture.
    """
    return _counted(config.backbone, config.capture)


@lru_cache
def _counted(backbone: BackboneConfig, capture: CaptureConfig) -> ModelCost:
    with _without_values():
        model = _full_size(backbone)
        latents, condition = _inputs(model)
        with torch.no_grad(), FlopCounterMode(display=False) as forward, _LargestTensor(model) as largest:
            model.predict(latents, 0.5, condition)
        saved = _SavedBytes()
        gradient = FlopCounterMode(display=False)
        with gradient, saved:
            moving, total = _read(model, capture, latents, condition)
            torch.autograd.grad(total, moving)
    flops = forward.get_total_flops()
    guided = model.classifier_free and backbone.guidance > UNGUIDED
    return ModelCost(
        weights=weight_bytes(model),
        forward_flops=flops,
        guided_flops=2 * flops if guided else flops,
        gradient_flops=gradient.get_total_flops(),
        forward_bytes=LIVE_LARGEST * largest.bytes,
        saved_bytes=saved.bytes,
        sizes=_sizes(model, capture, backbone.steps),
    )


def saved_bytes(config: RunConfig) -> int:
    """Return the cost's `saved_bytes` alone, in a third of the time; raises ValueError as `count_cost` does."""
    with _without_values():
        model = _full_size(config.backbone)
        latents, condition = _inputs(model)
        with _SavedBytes() as saved:
            _read(model, config.capture, latents, condition)
    return saved.bytes


@contextmanager
def _without_values() -> Iterator[None]:
    """Make tensors that have a shape and nothing else, and count attention as a GPU runs it."""
    with torch.device("meta"), _fused_attention():
        yield


def _full_size(backbone: BackboneConfig) -> DiffusersModel:
    if backbone.architecture is None:
        raise ValueError(f"backbone {backbone.model} names no architecture, so there is none to count")
    placement = Placement(device="meta", dtype=getattr(torch, backbone.dtype), checkpointing=backbone.checkpointing)
    architecture = load_architecture(backbone.architecture)
    return random_backbone(architecture, "full", size=backbone.size, placement=placement)


def _inputs(model: DiffusersModel) -> tuple[Tensor, Condition]:
    """Return the latents of an image (1, …) and the condition of a prompt."""
    with _AskedValues():
        condition = model.encode_prompts([PROMPT.text])
    return torch.zeros(1, *model.latent_shape), condition


def sizes_of(config: RunConfig) -> FileSizes:
    """Return what the sizes of a run's files depend on.

    They are of its architecture, or of the settings in its model's folder: no weights are read. Raises UserError where
    it has neither.
    """
    with torch.device("meta"):
        return _sizes(_shapes(config.backbone), config.capture, config.backbone.steps)


def _sizes(model: DiffusersModel, capture: CaptureConfig, steps: int) -> FileSizes:
    source = map_source(model, capture, steps)
    return FileSizes(
        channels=source.channels,
        cells=prod(source.cells),
        latents=prod(model.latent_shape),
        pixels=prod(model.image_sides),
        stacks=source.stacks,
    )


@lru_cache
def _shapes(backbone: BackboneConfig) -> DiffusersModel:
    if backbone.architecture is None:
        return backbone_without_weights(backbone)
    return random_backbone(
        load_architecture(backbone.architecture), "full", size=backbone.size, placement=Placement(device="meta")
    )


def weight_bytes(model: DiffusersModel) -> dict[str, int]:
    """Return the bytes of every component's parameters."""
    return {
        name: sum(p.numel() * p.element_size() for p in module.parameters()) for name, module in model.modules.items()
    }


def _read(
    model: DiffusersModel, capture: CaptureConfig, latents: Tensor, condition: Condition
) -> tuple[Tensor, Tensor]:
    """Read maps as steering does; return what a gradient is asked for, and the sum that it is asked of."""
    reader = AttentionReader(
        model,
        layers=capture.layers,
        softmax=capture.softmax,
        grid=capture.grid,
        antialias=capture.antialias,
        normalize=capture.normalize,
    )
    moving = latents.clone().requires_grad_(True)
    with torch.enable_grad():
        entering = moving.clone()  # the counter's hooks on what enters a module do not go with a leaf
        return moving, reader.read(entering, 0.5, condition, model.phrase_weights([PROMPT])).sum()


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Count attention as the fused kernel of a GPU runs it; on tensors without values torch would store every score."""
    plain = functional.scaled_dot_product_attention

    def fused(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **_options: Any,
    ) -> Tensor:
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        mask = None
        if attn_mask is not None:
            mask = attn_mask.to(query.dtype).expand(*query.shape[:-1], key.shape[-2])
        output: Tensor = kernel(query, key, value, mask, True, 0.0, is_causal)[0]
        return output

    functional.scaled_dot_product_attention = fused  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


class _AskedValues(TorchDispatchMode):
    """Answers a text encoder that asks for a value, such as whether its mask leaves nothing out: no, or zero."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            return False if args[0].dtype == torch.bool else 0
        return function(*args, **(kwargs or {}))


class _LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation returns, views of what a model holds anyway left out."""

    def __init__(self, model: DiffusersModel) -> None:
        super().__init__()
        self._held = {
            t.untyped_storage()._cdata
            for module in model.modules.values()
            for t in (*module.parameters(), *module.buffers())
        }
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        tensors = [
            t
            for t in tree_leaves(output)
            if isinstance(t, torch.Tensor) and t.untyped_storage()._cdata not in self._held
        ]
        sizes = [t.numel() * t.element_size() for t in tensors]
        self.bytes = max([self.bytes, *sizes])
        return output


class _SavedBytes:
    """Sums what autograd keeps for the way back, every storage once, weights left out."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> _SavedBytes:
        self._hooks.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._hooks.__exit__(*details)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter) and storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self.bytes += storage.nbytes()
        return tensor


def model_run(name: str, overrides: Mapping[str, object]) -> RunConfig:
    """Return the run that a model of PAPER or BEYOND is counted and rehearsed in, with some settings replaced."""
    if name in PAPER:
        return load_run_config(name, dict(overrides))
    return load_run_config("sd21", {"backbone": name, **ANY_STEPS, **overrides})


def main() -> None:
    """Print what one image costs with the paper's four configurations, and with other backbones in two of them."""
    print(f"{'':14s}{'weights':>10s}{'forward':>14s}{'gradient':>14s}{'kept':>10s}{'maps':>7s}")
    for name in (*PAPER, *BEYOND):
        cost = count_cost(model_run(name, {}))
        print(
            f"{name:14s}{sum(cost.weights.values()) / 1e9:7.1f} GB{cost.forward_flops / 1e12:8.2f} Tflop"
            f"{cost.gradient_flops / 1e12:8.1f} Tflop{cost.saved_bytes / 1e9:7.2f} GB{cost.sizes.channels:7d}"
        )


if __name__ == "__main__":
    main()
