"""Reading files of one value a line, with errors that name the line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from l2s_core.errors import UserError

T = TypeVar("T")
SHOWN = 80  # characters of a bad line that an error repeats


def read_lines(path: Path, parse: Callable[[str], T]) -> list[T]:
    """Return what `parse` makes of every line that is not blank.

    Raises UserError naming the file when it is absent, unreadable or empty, and the file and the line
    when `parse` raises one.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"missing file {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    values = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values.append(parse(line.strip()))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    if not values:
        raise UserError(f"{path} holds no lines")
    return values


def read_jsonl(path: Path, parse: Callable[[Any], T]) -> list[T]:
    """Return what `parse` makes of the JSON value of every line; errors as in `read_lines`."""
    return read_lines(path, lambda line: parse(_decoded(line)))


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        shown = line if len(line) <= SHOWN else line[:SHOWN] + "…"
        raise UserError(f"not JSON: {shown!r}; write one JSON object a line") from None
