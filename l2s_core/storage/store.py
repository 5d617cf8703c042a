"""Tensors on disk, in safetensors alone: sealed shards with a description, and weights that others wrote."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from l2s_core.errors import UserError
from l2s_core.storage.decoding import decode_json
from l2s_core.storage.files import atomic_path
from l2s_core.storage.sealed import (
    PLACE,
    REBUILD,
    readable,
    require_checksum,
    require_place,
    require_sealed,
    seal_for,
    sealed_path,
)

log = logging.getLogger("l2s")
START_AGAIN = "delete it, and the training makes it again"
FETCH_AGAIN = "the file is missing or damaged, fetch it again"
_DESCRIPTION = "description"
_HEADER_BYTES = 8  # of the length of a safetensors header

T = TypeVar("T")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], description: Any) -> None:
    """Write tensors and a JSON-able description to `path` (a .safetensors file) atomically, bound to its place."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(description, sort_keys=True)
    with sealed_path(path) as temporary:
        save_file(tensors, temporary, metadata={_DESCRIPTION: text, **seal_for(path)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors and the description that `write_tensors` wrote; errors as in `read_shard`."""
    return read_shard(path, lambda tensors, description: (tensors, description))


def read_shard(
    path: Path,
    parse: Callable[[dict[str, Tensor], Any], T],
    *,
    what: str = "shard",
    remedy: str = REBUILD,
    place: str | None = None,
) -> T:
    """Return what `parse` makes of the tensors and the description that `write_tensors` wrote.

    Raises UserError, one line, for a file that is missing, has no checksum, is damaged, was written for another place
    than `place` (by default where it lies), or holds something else.
    """
    with readable(path, what, remedy):
        data = Path(path).read_bytes()
        require_checksum(path, data, remedy)
        metadata = _metadata(data)
        require_place(path, metadata.get(PLACE), remedy, wanted=place)
        return parse(load(data), decode_json(metadata[_DESCRIPTION].encode()))


def read_description(path: Path, parse: Callable[[Any], T], *, what: str = "shard", remedy: str = REBUILD) -> T:
    """Return what `parse` makes of the description alone; its checksum is read once a process. Errors are the same."""
    require_sealed(path, what=what, remedy=remedy)
    with readable(path, what, remedy), safe_open(path, "pt") as stored:
        metadata = stored.metadata()
        require_place(path, metadata.get(PLACE), remedy)
        return parse(decode_json(metadata[_DESCRIPTION].encode()))


def write_weights(path: Path, tensors: Mapping[str, Tensor], state: Any = None) -> None:
    """Write tensors atomically in the layout that other programs read, with a JSON-able `state` of their training."""
    metadata = {"format": "pt"} | ({} if state is None else {"state": json.dumps(state)})
    with atomic_path(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=metadata)


@contextmanager
def opened_weights(path: Path, remedy: str = FETCH_AGAIN) -> Iterator[Any]:
    """Yield a file of tensors that anyone wrote, opened to read single ones.

    Raises UserError, one line, where the file, or what the block asks of it, is missing or damaged.
    """
    with readable(path, "weights", remedy), safe_open(path, "pt") as stored:
        yield stored


def read_weights(path: Path, remedy: str = FETCH_AGAIN) -> dict[str, Tensor]:
    """Return the tensors of a file that anyone wrote; errors as in `opened_weights`."""
    with opened_weights(path, remedy) as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)


def require_finite(tensors: Mapping[str, Tensor], where: Path, remedy: str) -> None:
    """Raise UserError for weights that are infinite or no numbers: what they compute looks like figures and is none."""
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise UserError(f"{where}: {len(bad)} weights are not finite numbers, as {min(bad)}; {remedy}")


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


def _metadata(data: bytes) -> dict[str, str]:
    """Return the texts in the header of a safetensors file."""
    length = int.from_bytes(data[:_HEADER_BYTES], "little")
    metadata: dict[str, str] = decode_json(data[_HEADER_BYTES : _HEADER_BYTES + length])["__metadata__"]
    return metadata
