"""The weight files of one precision.

A model may have its weights several times, as model.safetensors and model.fp16.safetensors.
"""

from __future__ import annotations

import re

_SHARD = re.compile(r"-\d+-of-\d+")
_PLAIN = {"safetensors", "index", "json"}


def is_loaded(name: str, precision: str | None) -> bool:
    """Whether a file of a model's folder is loaded with it: all but weights, and indexes, of another precision."""
    if ".safetensors" not in name:
        return True
    stated = [_SHARD.sub("", part) for part in name.split(".")[1:] if part not in _PLAIN]
    return stated == ([precision] if precision else [])


def weight_patterns(precision: str | None) -> tuple[list[str], list[str]]:
    """Return patterns of the names of a precision's weights, and of those that match and are of another one."""
    if precision is None:
        return ["*.safetensors"], ["*.*.safetensors"]
    return [f"*.{precision}.safetensors", f"*.{precision}-*.safetensors"], []
