"""From a configuration to a loaded backbone."""

from __future__ import annotations

from pathlib import Path

import torch

from l2s_core.backbones import unet
from l2s_core.backbones.folder import fingerprint_of, resolve_folder
from l2s_core.config import BackboneConfig
from l2s_core.errors import UserError

FAMILIES = {"unet": (unet.UNetBackbone, unet.COMPONENTS)}


def pick_device(wanted: str) -> str:
    """Return the device for "auto", "cpu" or "cuda"; raises UserError for CUDA where there is none."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UserError("device: cuda, but torch sees no CUDA device here; set device to cpu or auto")
    return ("cuda" if available else "cpu") if wanted == "auto" else wanted


def model_folder(config: BackboneConfig) -> Path:
    """Return the model's folder; raises UserError when it is missing or incomplete."""
    return resolve_folder(config.model, FAMILIES[config.family][1])


def model_fingerprint(config: BackboneConfig) -> str:
    """Return the fingerprint of the model's files without loading them."""
    return fingerprint_of(model_folder(config))


def load_backbone(config: BackboneConfig, device: str):
    """Load the backbone that `config` names onto `device`."""
    family, _ = FAMILIES[config.family]
    return family.from_pretrained(config.model, device=device, dtype=getattr(torch, config.dtype))
