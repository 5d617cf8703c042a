"""Finding, checking and loading a model folder in diffusers' layout; safetensors only."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch

from l2s_core.backbones.hub import content_digest, hub_folder
from l2s_core.errors import UserError
from l2s_core.files import digest

SHIPPED = Path(__file__).parents[1] / "miniworld" / "assets"
INDEX = "model_index.json"


@dataclass(frozen=True)
class Component:
    """A component's class: the library and name it is loaded with, and others whose files that class reads."""

    library: str
    name: str
    others: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def kind(self) -> type:
        return getattr(import_module(self.library), self.name)


def resolve_folder(model: str, components: Collection[str]) -> Path:
    """Return the local folder of a model: a shipped name, a path, or a hub id (from the local cache, or fetched).

    Fetching needs HF_HUB_OFFLINE=0 in the environment. Raises UserError saying where it looked when there
    is none, or which component is missing.
    """
    shipped = SHIPPED / model
    looked = [shipped, Path(model)]
    folder = next((path for path in looked if (path / INDEX).is_file()), None) or hub_folder(model, components)
    if folder is None:
        names = sorted(p.parent.name for p in SHIPPED.glob(f"*/{INDEX}"))
        raise UserError(
            f"no model {model!r}: looked in {', '.join(map(str, looked))} and the local hub cache; "
            f"allowed: a shipped model ({', '.join(names) or 'none'}), a folder with {INDEX}, or a hub id "
            "(HF_HUB_OFFLINE=0 fetches one that is not in the cache)"
        )
    missing = [name for name in components if not (folder / name).is_dir()]
    if missing:
        raise UserError(f"{folder} is not a complete model of this family: it has no {missing[0]}/; download it again or change backbone.family")
    return folder


def shipped_classifier(name: str) -> Path:
    """Return the folder of the classifier that ships for a configuration; raises UserError when none does."""
    folder = SHIPPED / "classifiers" / Path(name).stem
    if not folder.is_dir():
        names = ", ".join(sorted(p.name for p in folder.parent.glob("*"))) or "none"
        raise UserError(f"no classifier ships for {name!r} (shipped: {names}); give --classifier FOLDER; 'l2s train' makes one")
    return folder


def load_component(component: Component, folder: Path, *, dtype: torch.dtype, variant: str | None = None):
    """Load one component with its own class; a file of another class or a broken one is a UserError."""
    kind = component.kind
    for file, key in (("config.json", None), ("scheduler_config.json", "_class_name")):
        if (folder / file).is_file():
            _require_class(component, folder / file, key)
    options: dict[str, object] = {}
    if issubclass(kind, torch.nn.Module):
        options = {"use_safetensors": True, "variant": variant}
        options["dtype" if component.library == "transformers" else "torch_dtype"] = dtype
    try:
        return kind.from_pretrained(folder, **options)
    except Exception as error:  # the libraries raise many kinds for one cause: a file they cannot read
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot load {folder}: {reason}; the file is missing or damaged, fetch it again") from None


def _require_class(component: Component, file: Path, key: str | None) -> None:
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {error}; the file is damaged, fetch it again") from None
    name = stated.get(key or "_class_name") or (stated.get("architectures") or [component.name])[0]
    if name not in (component.name, *component.others):
        raise UserError(f"{file.parent} holds a {name}, expected {component.name}; choose the backbone.family that fits the model")


def component_files(folder: Path, components: Iterable[str]) -> list[Path]:
    """Return the weight and settings files of a model's components, and its index."""
    files = [folder / INDEX] if (folder / INDEX).is_file() else []
    for name in components:
        files += sorted(p for p in (folder / name).rglob("*") if p.suffix in (".safetensors", ".json") and p.is_file())
    return files


def fingerprint_of(folder: Path, components: Iterable[str] = (".",)) -> str:
    """Return a digest of every weight and settings file of a model's components."""
    return digest({str(p.relative_to(folder)): content_digest(p) for p in component_files(folder, components)})
