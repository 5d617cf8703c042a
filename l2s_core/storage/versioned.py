"""JSON files that carry the number of their format, so that those of another version are named and not read wrongly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from l2s_core.errors import UserError
from l2s_core.storage.files import read_json

FORMAT = "format"

T = TypeVar("T")


def read_versioned(path: Path, number: int, parse: Callable[[Mapping[str, Any]], T], *, what: str, remedy: str) -> T:
    """Return what `parse` makes of a JSON object of format `number`.

    Raises UserError in one line that says that the file holds no `what`, and the `remedy`: for a file of another
    format or of none, and for one that `parse` has a KeyError, TypeError, ValueError or AttributeError for.
    """
    stored = read_json(path)
    if not isinstance(stored, dict):
        raise UserError(f"{path} holds no {what}; {remedy}")
    found = stored.get(FORMAT)
    if found != number:
        written = "an earlier version" if found is None else f"another version (format {found})"
        raise UserError(f"{path} was written by {written}, and this one reads format {number}; {remedy}")
    try:
        return parse(stored)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no {what} ({type(error).__name__} {error}); {remedy}") from None
