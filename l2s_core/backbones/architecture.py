"""Randomly initialised models of a real architecture, full-size or tiny: for rehearsals and tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import torch

from l2s_core.backbones.folder import Component, save_pipeline
from l2s_core.backbones.load import family_named
from l2s_core.backbones.model import DiffusersModel, Placement
from l2s_core.config import CONFIG_FOLDER, FamilyName, Section, read_yaml, validate
from l2s_core.errors import unknown_name
from l2s_core.miniworld.world.tokenizers import clip_tokenizer, t5_tokenizer

Scale = Literal["full", "tiny"]


class Architecture(Section):
    """A family and the settings of its components; `tiny` overrides them for the small one."""

    family: FamilyName
    parts: dict[str, dict[str, Any]]
    tiny: dict[str, dict[str, Any]]

    def settings(self, scale: Scale) -> dict[str, dict[str, Any]]:
        """Return the settings of every component at a scale."""
        parts = copy.deepcopy(self.parts)
        if scale == "tiny":
            for name, changes in self.tiny.items():
                parts[name] |= changes
        return parts


def load_architecture(name: str) -> Architecture:
    """Read configs/architectures/<name>.yaml; raises UserError for an unknown name."""
    path = CONFIG_FOLDER / "architectures" / f"{name}.yaml"
    if not path.is_file():
        raise unknown_name("architecture", name, (p.stem for p in path.parent.glob("*.yaml")))
    return validate(Architecture, read_yaml(path), str(path))


def random_parts(
    architecture: Architecture, scale: Scale, *, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict:
    """Return components with random weights, made directly on `device` in `dtype`.

    The tokenizers are the small world's own: real vocabularies are not at hand, and cost does not depend on them.
    """
    components = family_named(architecture.family).COMPONENTS
    parts = {}
    with torch.random.fork_rng(devices=[]), torch.device(device), _default_dtype(dtype):
        torch.manual_seed(seed)
        for name, settings in architecture.settings(scale).items():
            parts[name] = _component(components[name], settings)
    return parts


def random_backbone(
    architecture: Architecture, scale: Scale, *, size: int | None = None, placement: Placement = Placement()
) -> DiffusersModel:
    """Return a backbone with random weights; its fingerprint says so."""
    parts = random_parts(
        architecture, scale, device="cpu" if placement.offload else placement.device, dtype=placement.dtype
    )
    return family_named(architecture.family)(
        parts, fingerprint=f"random-{architecture.digest()}-{scale}", size=size, placement=placement
    )


def save_random_model(architecture: Architecture, folder: Path, scale: Scale = "tiny", *, seed: int = 0) -> Path:
    """Write a random model in diffusers' folder layout, as published weights come."""
    save_pipeline(folder, "DiffusionPipeline", random_parts(architecture, scale, seed=seed))
    return folder


def _component(component: Component, settings: dict[str, Any]):
    kind = component.kind
    if component.name == "CLIPTokenizer":
        return clip_tokenizer(0, length=settings["length"])
    if component.name == "T5Tokenizer":
        return t5_tokenizer(0, length=settings["length"])
    if component.library == "transformers":
        return kind(kind.config_class(**settings))
    return kind(**settings)


class _default_dtype:
    """Make floating-point parameters of a type as long as the block lasts."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.before = dtype, torch.get_default_dtype()

    def __enter__(self) -> None:
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(self.before)
