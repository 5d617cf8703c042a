"""Nested settings as a user writes single ones: by dotted keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dotted(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested settings by dotted keys; an empty mapping is a leaf."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= {f"{key}.{below}": leaf for below, leaf in dotted(value).items()}
        else:
            leaves[key] = value
    return leaves
