"""What a configuration adds to a model, LoRAs and textual inversions: their files, which are part of what it is."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2s_core.backbones.hub import content_digest
from l2s_core.config import BackboneConfig, LoraConfig, TextualInversionConfig
from l2s_core.config.loading import is_file
from l2s_core.errors import UserError
from l2s_core.hashing import digest
from l2s_core.storage.files import read_json
from l2s_core.storage.store import read_weights, require_finite

Addition = LoraConfig | TextualInversionConfig
SUFFIX = ".safetensors"
FETCH = "fetch the file again"


def addition_file(addition: Addition) -> Path:
    """Return the file of an addition; raises UserError where there is none, a pickle, or a folder that has several."""
    path = Path(addition.path).expanduser()
    if path.is_dir():
        found = sorted(path.glob(f"*{SUFFIX}"))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise UserError(
                f"{addition.SETTING}: {path} holds {len(found)} {SUFFIX} files ({names}); name the file itself"
            )
        return found[0]
    if path.suffix != SUFFIX and is_file(path):
        raise UserError(
            f"{addition.SETTING}: {path} is no {SUFFIX} file, and others may run code when they are read; "
            f"fetch or save it as {SUFFIX}"
        )
    if not is_file(path):
        raise UserError(
            f"{addition.SETTING}: no {SUFFIX} file {path}; allowed: such a file, or a folder that holds one"
        )
    return path


def read_addition(addition: Addition) -> dict[str, Tensor]:
    """Return the tensors of an addition's file; raises UserError for a damaged one and for numbers that are none."""
    path = addition_file(addition)
    stored = read_weights(path, FETCH)
    require_finite(stored, path, FETCH)
    return stored


def fingerprint_with(fingerprint: str, config: BackboneConfig) -> str:
    """Return the fingerprint of a model with what its configuration adds: its own, where that is nothing."""
    loras = [[content_digest(addition_file(lora)), lora.scale] for lora in config.lora]
    tokens = token_digests(config)
    if not loras and not tokens:
        return fingerprint
    return digest([fingerprint, loras, tokens] if tokens else [fingerprint, loras])


def token_digests(config: BackboneConfig) -> list[list[str]]:
    """Return the digest of the file of every textual inversion, with its token."""
    return [[content_digest(addition_file(each)), each.token] for each in config.textual_inversion]


def tensor_digest(tensor: Tensor) -> str:
    """Return a digest of a tensor's bytes."""
    values = tensor.detach().cpu().contiguous()
    return hashlib.sha256(values.view(torch.uint8).numpy().tobytes()).hexdigest()


def pipeline_of(parts: Mapping[str, Any], index: Path, setting: str, method: str) -> Any:
    """Return diffusers' pipeline of a model's components, without those that the model's family does not use.

    It is the one that the model's `index` names; raises UserError where that has no `method`, which `setting` needs.
    """
    import diffusers

    name = str(read_json(index).get("_class_name"))
    kind = getattr(diffusers, name, None)
    if kind is None or not hasattr(kind, method):
        raise UserError(f"{setting}: {index} names the pipeline {name}, into which diffusers loads none")
    wanted = signature(kind.__init__).parameters
    absent = {key: None for key, value in list(wanted.items())[1:] if value.default is Parameter.empty}
    return kind(**absent | {key: part for key, part in parts.items() if key in wanted})


@contextmanager
def quiet() -> Iterator[None]:
    """The libraries warn of every weight that an addition does not have, which is nearly all of the model."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
