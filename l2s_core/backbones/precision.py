"""The weight files of one precision.

A model may have its weights several times, as model.safetensors and model.fp16.safetensors.
"""

from __future__ import annotations

import re
from pathlib import Path

LOADED = (".safetensors", ".json", ".txt", ".model", ".jinja")
"""The suffixes of all files that a model is made from: weights, settings, vocabularies, and templates of chats."""
_SHARD = re.compile(r"-\d+-of-\d+")
_PLAIN = {"safetensors", "index", "json"}


def is_loaded(name: str, precision: str | None) -> bool:
    """Whether a file of a model's folder is loaded with it: all of LOADED but weights, and indexes, of another one."""
    if ".safetensors" not in name:
        return name.endswith(LOADED)
    return _precision_of(name) == precision


def precision_there(folder: Path, wanted: str | None) -> str | None:
    """Return the precision that a component's weights are loaded in: the wanted one, or plain where it has none of it.

    Diffusers does so, too: a model may have one component in half precision and the rest as they are.
    """
    return wanted if wanted in precisions(folder) else None


def precisions(folder: Path) -> set[str | None]:
    """Return the precisions in which a component's folder has weights; None is plain."""
    return {_precision_of(path.name) for path in folder.glob("*.safetensors")}


def _precision_of(name: str) -> str | None:
    """Return the precision that a file of weights, or an index of them, states in its name."""
    stated = [_SHARD.sub("", part) for part in name.split(".")[1:]]
    return ".".join(part for part in stated if part not in _PLAIN) or None


def weight_patterns(precision: str | None) -> tuple[list[str], list[str]]:
    """Return patterns of the names of a precision's weights, and of those that match and are of another one."""
    if precision is None:
        return ["*.safetensors"], ["*.*.safetensors"]
    return [f"*.{precision}.safetensors", f"*.{precision}-*.safetensors"], []
