"""Sealed JSON objects with the number of their format, so that another version's are named and not read wrongly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from l2s_core.errors import UserError
from l2s_core.storage.decoding import decode_json
from l2s_core.storage.files import json_text
from l2s_core.storage.sealed import PLACE, readable, require_checksum, require_place, seal_for, sealed_path

FORMAT = "format"

T = TypeVar("T")


def write_versioned(path: Path, number: int, content: Mapping[str, Any]) -> None:
    """Write a JSON object of format `number` atomically, bound to its place."""
    with sealed_path(path) as temporary:
        temporary.write_text(json_text({FORMAT: number, **seal_for(path), **content}), encoding="utf-8")


def read_versioned(
    path: Path,
    number: int,
    parse: Callable[[Mapping[str, Any]], T],
    *,
    what: str,
    remedy: str,
    place: str | None = None,
    anywhere: bool = False,
) -> T:
    """Return what `parse` makes of a JSON object of format `number`.

    Raises UserError in one line that says what is wrong, and the `remedy`: for a file of another format or of none,
    for one that is damaged or was written for another place than `place` (by default where it lies; it may be
    `anywhere`, where that is asked for), and for one that `parse` cannot read.
    """
    with readable(path, what, remedy):
        data = Path(path).read_bytes()
        stored = decode_json(data)
        if not isinstance(stored, dict):
            raise UserError(f"{path} holds no {what}, or those of an earlier version; {remedy}")
        found = stored.get(FORMAT)
        if found != number:
            written = "an earlier version" if found is None else f"another version (format {found})"
            raise UserError(f"{path} was written by {written}, and this one reads format {number}; {remedy}")
        require_checksum(path, data, remedy)
        if not anywhere:
            require_place(path, stored.get(PLACE), remedy, wanted=place)
        return parse(stored)
