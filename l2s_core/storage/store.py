"""Shards of tensors on disk: safetensors with a description and a checksum, written atomically."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from l2s_core.errors import UserError
from l2s_core.storage.files import atomic_path

log = logging.getLogger("l2s")
REBUILD = "run again with --rebuild to write it anew"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], description: Any) -> None:
    """Write tensors and a JSON-able description to `path` (a .safetensors file) atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(description, sort_keys=True)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"description": text, "checksum": _checksum(tensors, text)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read what `write_tensors` wrote; raises UserError naming a missing, truncated or altered shard."""
    with _opened(path) as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
        metadata = stored.metadata() or {}
        text = metadata["description"]
        stated = metadata["checksum"]
    if _checksum(tensors, text) != stated:
        raise UserError(f"shard {path} was altered: its values do not match its checksum; {REBUILD}")
    return tensors, json.loads(text)


def read_description(path: Path) -> Any:
    """Read the description alone, and none of the tensors; raises UserError naming a missing or truncated shard."""
    with _opened(path) as stored:
        return json.loads((stored.metadata() or {})["description"])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as stored:
            yield stored
    except FileNotFoundError:
        raise UserError(f"missing shard {path}; {REBUILD}") from None
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"shard {path} is truncated or not a shard of this project ({error}); {REBUILD}") from None


def ensure(path: Path, verify: Callable[[Path], Any], build: Callable[[], Any], *, rebuild: bool = False) -> bool:
    """Make sure that `path` holds a good output; return True when it was reused, False when built.

    A damaged output is an error naming it, unless `rebuild` asks to write it anew. Files appear under
    their final name only when complete, so a run killed at any moment leaves nothing damaged behind.
    """
    if Path(path).exists():
        try:
            verify(path)
            return True
        except UserError:
            if not rebuild:
                raise
    began = time.perf_counter()
    build()
    seconds = time.perf_counter() - began
    log.info("built %s in %.3f s", path, seconds, extra={"seconds": seconds})
    return False


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()
