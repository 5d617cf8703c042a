"""Randomly initialised models of a real architecture, full-size or tiny: for rehearsals and tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import torch

from l2s_core.backbones.folder import save_pipeline
from l2s_core.backbones.load import family_named
from l2s_core.backbones.model import ON_CPU, DiffusersModel, Placement
from l2s_core.config import CONFIG_FOLDER, Family, Section, read_yaml, validate
from l2s_core.errors import unknown_name
from l2s_core.sizes import Size

Scale = Literal["full", "tiny"]
FOLDER = CONFIG_FOLDER / "architectures"


class Architecture(Section):
    """A family and the settings of its components; `tiny` overrides them for the small one.

    `index` has the settings of the model as a whole.
    """

    family: Family
    index: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]]
    tiny: dict[str, dict[str, Any]]

    def settings(self, scale: Scale) -> dict[str, dict[str, Any]]:
        """Return the settings of every component at a scale."""
        parts = copy.deepcopy(self.parts)
        if scale == "tiny":
            for name, changes in self.tiny.items():
                parts[name] |= changes
        return parts


def architecture_names() -> list[str]:
    """Return the names of the architectures in configs/architectures."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_architecture(name: str) -> Architecture:
    """Read configs/architectures/<name>.yaml; raises UserError for an unknown name."""
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise unknown_name("architecture", name, architecture_names())
    return validate(Architecture, read_yaml(path), str(path))


def random_parts(
    architecture: Architecture, scale: Scale, *, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Return components with random weights, made directly on `device` in `dtype`."""
    components = family_named(architecture.family).COMPONENTS
    parts = {}
    with torch.random.fork_rng(devices=[]), torch.device(device), _default_dtype(dtype):
        torch.manual_seed(seed)
        for name, settings in architecture.settings(scale).items():
            parts[name] = components[name].random(settings)
    return parts


def random_backbone(
    architecture: Architecture, scale: Scale, *, size: Size | None = None, placement: Placement = ON_CPU
) -> DiffusersModel:
    """Return a backbone with random weights; its fingerprint says so.

    `size` is that of its images in pixels, by default what its denoiser, or for a tiny one its family, states.
    """
    family = family_named(architecture.family)
    if scale == "tiny" and size is None:
        size = family.TINY_SIDE
    parts = random_parts(
        architecture, scale, device="cpu" if placement.offload else placement.device, dtype=placement.dtype
    )
    fingerprint = f"random-{architecture.digest()}-{scale}"
    return family(parts, fingerprint=fingerprint, size=size, placement=placement, settings=architecture.index)


def save_random_model(architecture: Architecture, folder: Path, scale: Scale = "tiny", *, seed: int = 0) -> Path:
    """Write a random model in diffusers' folder layout, as published weights come."""
    save_pipeline(folder, "DiffusionPipeline", random_parts(architecture, scale, seed=seed), **architecture.index)
    return folder


class _default_dtype:
    """Make floating-point parameters of a type as long as the block lasts."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.before = torch.get_default_dtype()

    def __enter__(self) -> None:
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(self.before)
