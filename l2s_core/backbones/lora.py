"""LoRA weights (Hu et al. 2022, arXiv 2106.09685), merged into a model's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from l2s_core.backbones.additions import FETCH, addition_file, pipeline_of, quiet, read_addition, tensor_digest
from l2s_core.config import LoraConfig
from l2s_core.errors import UserError, first_line
from l2s_core.hashing import digest

DOWN = (".lora_A.weight", ".lora_down.weight", ".lora.down.weight")  # one a layer, however a file names its tensors


def merge(parts: Mapping[str, Any], index: Path, loras: Sequence[LoraConfig]) -> None:
    """Add the weights of LoRAs, each times its scale, to those of a model's components, in place.

    diffusers reads them, as the pipeline that the model's `index` names. Raises UserError for files that it cannot read
    and for layers that the model has not.
    """
    if find_spec("peft") is None:
        raise UserError(f"{LoraConfig.SETTING} needs the package peft; pip install 'learn-to-steer[lora]'")
    pipeline = pipeline_of(parts, index, LoraConfig.SETTING, "load_lora_weights")
    for number, lora in enumerate(loras):
        _load(pipeline, lora, f"lora-{number}")
    names = [f"lora-{number}" for number in range(len(loras))]
    pipeline.set_adapters(names, [lora.scale for lora in loras])
    pipeline.fuse_lora(adapter_names=names)
    pipeline.unload_lora_weights()


def _load(pipeline: Any, lora: LoraConfig, name: str) -> None:
    path = addition_file(lora)
    layers = sum(key.endswith(DOWN) for key in read_addition(lora))
    with quiet():
        try:
            pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name, local_files_only=True)
        except Exception as error:  # the libraries raise many kinds for one cause
            raise UserError(f"{LoraConfig.SETTING}: cannot load {path}: {first_line(error)}; {FETCH}") from None
    found = sum(name in layer.lora_A for layer in _adapted(pipeline))
    if layers == 0 or found < layers:
        raise UserError(
            f"{LoraConfig.SETTING}: {path} has weights for {layers} layers, of which this model has {found}; "
            "use one that was trained for this model"
        )


def _adapted(pipeline: Any) -> Iterator[Any]:
    """The layers of a pipeline that have LoRA weights."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            yield from (layer for layer in part.modules() if hasattr(layer, "lora_A"))


def active_digest(modules: Iterable[nn.Module]) -> str | None:
    """Return a digest of the LoRA weights that are active in a pipeline's modules, not merged; None where none are."""
    active = [
        [name, layer.scaling[adapter], *(tensor_digest(part[adapter].weight) for part in (layer.lora_A, layer.lora_B))]
        for module in modules
        for name, layer in module.named_modules()
        if hasattr(layer, "lora_A") and not layer.disable_adapters
        for adapter in layer.active_adapters
        if adapter in layer.lora_A
    ]
    return digest(active) if active else None
