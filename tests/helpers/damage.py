"""Damage to a model's files, as interrupted downloads leave it."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file


def drop_weights(file: Path, count: int = 1, ending: str = "") -> str:
    """Take the first weights whose names end so out of a safetensors file; return the name of the first."""
    weights = load_file(file)
    lost = sorted(name for name in weights if name.endswith(ending))[:count]
    save_file({name: weight for name, weight in weights.items() if name not in lost}, file, metadata={"format": "pt"})
    return lost[0]
