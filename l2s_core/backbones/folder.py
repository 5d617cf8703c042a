"""Finding, checking and loading a model folder in diffusers' layout; safetensors only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from l2s_core.errors import UserError
from l2s_core.files import digest, file_digest

SHIPPED = Path(__file__).parents[1] / "miniworld" / "assets"


def resolve_folder(model: str, components: Sequence[str]) -> Path:
    """Return the local folder of a model: a shipped name, a path, or a hub id already in the local cache.

    Raises UserError saying where it looked when there is none, or which component is missing.
    """
    shipped = SHIPPED / model
    looked = [shipped, Path(model)]
    folder = next((path for path in looked if (path / "model_index.json").is_file()), None)
    if folder is None:
        folder = _hub_snapshot(model)
    if folder is None:
        names = sorted(p.parent.name for p in SHIPPED.glob("*/model_index.json"))
        raise UserError(
            f"no model {model!r}: looked in {', '.join(map(str, looked))} and the local hub cache; "
            f"allowed: a shipped model ({', '.join(names) or 'none'}), a folder with model_index.json, or a downloaded hub id"
        )
    for name in components:
        if not (folder / name).is_dir():
            raise UserError(f"{folder} is not a complete model of this family: it has no {name}/; download it again")
    return folder


def shipped_classifier(name: str) -> Path:
    """Return the folder of the classifier that ships for a configuration; raises UserError when none does."""
    folder = SHIPPED / "classifiers" / Path(name).stem
    if not folder.is_dir():
        names = ", ".join(sorted(p.name for p in folder.parent.glob("*"))) or "none"
        raise UserError(f"no classifier ships for {name!r} (shipped: {names}); give --classifier FOLDER; 'l2s train' makes one")
    return folder


def _hub_snapshot(model: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "model_index.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def load_component(kind: type, folder: Path, name: str, *, dtype: torch.dtype):
    """Load one component with its own class; a file of another class or a broken one is a UserError."""
    config = folder / name / "config.json"
    if config.is_file():
        stated = json.loads(config.read_text())
        stated_class = stated.get("_class_name") or (stated.get("architectures") or [kind.__name__])[0]
        if stated_class != kind.__name__:
            raise UserError(f"{folder / name} holds a {stated_class}, expected {kind.__name__}; choose the matching family")
    options = {}
    if issubclass(kind, torch.nn.Module):
        options = {"use_safetensors": True}
        options["dtype" if kind.__module__.startswith("transformers") else "torch_dtype"] = dtype
    try:
        return kind.from_pretrained(folder / name, **options)
    except Exception as error:  # the libraries raise many kinds for one cause: a file they cannot read
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot load {folder / name}: {reason}; the file is missing or damaged, fetch it again") from None


def fingerprint_of(folder: Path) -> str:
    """Return a digest of every weight and configuration file of a model folder."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json") and p.is_file())
    return digest({str(p.relative_to(folder)): file_digest(p) for p in files})
