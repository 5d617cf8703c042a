"""LoRA weights (Hu et al. 2022, arXiv 2106.09685), merged into a model's own."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from l2s_core.backbones.hub import content_digest
from l2s_core.config import LoraConfig
from l2s_core.config.loading import is_file
from l2s_core.errors import UserError, first_line
from l2s_core.hashing import digest
from l2s_core.storage.files import read_json
from l2s_core.storage.store import read_weights, require_finite

SUFFIX = ".safetensors"
DOWN = (".lora_A.weight", ".lora_down.weight", ".lora.down.weight")  # one a layer, however a file names its tensors
FETCH = "fetch the file again"


def lora_file(lora: LoraConfig) -> Path:
    """Return the file of LoRA weights; raises UserError where there is none, or a folder has several."""
    path = Path(lora.path).expanduser()
    if path.is_dir():
        found = sorted(path.glob(f"*{SUFFIX}"))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise UserError(f"backbone.lora: {path} holds {len(found)} {SUFFIX} files ({names}); name the file itself")
        return found[0]
    if path.suffix != SUFFIX or not is_file(path):
        raise UserError(f"backbone.lora: no {SUFFIX} file {path}; allowed: such a file, or a folder that holds one")
    return path


def fingerprint_with(fingerprint: str, loras: Sequence[LoraConfig]) -> str:
    """Return the fingerprint of a model with LoRAs: its own, where there are none."""
    if not loras:
        return fingerprint
    return digest([fingerprint, [[content_digest(lora_file(lora)), lora.scale] for lora in loras]])


def merge(parts: Mapping[str, Any], index: Path, loras: Sequence[LoraConfig]) -> None:
    """Add the weights of LoRAs, each times its scale, to those of a model's components, in place.

    diffusers reads them, as the pipeline that the model's `index` names. Raises UserError for files that it cannot read
    and for layers that the model has not.
    """
    if find_spec("peft") is None:
        raise UserError("backbone.lora needs the package peft; pip install 'learn-to-steer[lora]'")
    pipeline = _pipeline(parts, index)
    for number, lora in enumerate(loras):
        _load(pipeline, lora_file(lora), f"lora-{number}")
    names = [f"lora-{number}" for number in range(len(loras))]
    pipeline.set_adapters(names, [lora.scale for lora in loras])
    pipeline.fuse_lora(adapter_names=names)
    pipeline.unload_lora_weights()


def _pipeline(parts: Mapping[str, Any], index: Path) -> Any:
    """Return diffusers' pipeline of a model's components, without those that the model's family does not use."""
    import diffusers

    name = str(read_json(index).get("_class_name"))
    kind = getattr(diffusers, name, None)
    if kind is None or not hasattr(kind, "load_lora_weights"):
        raise UserError(f"backbone.lora: {index} names the pipeline {name}, into which diffusers loads no LoRA")
    wanted = signature(kind.__init__).parameters
    absent = {key: None for key, value in list(wanted.items())[1:] if value.default is Parameter.empty}
    return kind(**absent | {key: part for key, part in parts.items() if key in wanted})


def _load(pipeline: Any, path: Path, name: str) -> None:
    stored = read_weights(path, FETCH)
    require_finite(stored, path, FETCH)
    layers = sum(key.endswith(DOWN) for key in stored)
    with _quiet():
        try:
            pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name, local_files_only=True)
        except Exception as error:  # the libraries raise many kinds for one cause
            raise UserError(f"backbone.lora: cannot load {path}: {first_line(error)}; {FETCH}") from None
    found = sum(name in layer.lora_A for layer in _adapted(pipeline))
    if layers == 0 or found < layers:
        raise UserError(
            f"backbone.lora: {path} has weights for {layers} layers, of which this model has {found}; "
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
        [name, layer.scaling[adapter], _bytes_digest(layer.lora_A[adapter]), _bytes_digest(layer.lora_B[adapter])]
        for module in modules
        for name, layer in module.named_modules()
        if hasattr(layer, "lora_A") and not layer.disable_adapters
        for adapter in layer.active_adapters
        if adapter in layer.lora_A
    ]
    return digest(active) if active else None


def _bytes_digest(layer: nn.Module) -> str:
    weight = layer.get_parameter("weight").detach().cpu().contiguous()
    return hashlib.sha256(weight.view(torch.uint8).numpy().tobytes()).hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries warn of every weight that a LoRA does not have, which is nearly all of the model."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
