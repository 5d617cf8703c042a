"""Digests of values, the same in every process: what addresses, seeds and splits are made of."""

from __future__ import annotations

import hashlib
import json
from typing import Any

SEED_RANGE = 2**48  # seeds of noise are whole numbers below it


def digest(value: Any, length: int = 16) -> str:
    """Return a hex digest of a JSON-able value, independent of key order and of the process."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def stable_fraction(*parts: object) -> float:
    """Map values to [0, 1) by a hash that is the same in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def stable_seed(*parts: object) -> int:
    """Map values to a seed below SEED_RANGE by the same hash."""
    return int(stable_fraction(*parts) * SEED_RANGE)
