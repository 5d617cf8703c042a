"""Reading files of one value a line, with errors that name the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from l2s_core.errors import UserError
from l2s_core.storage.decoding import BOM, decode_json, decode_text

T = TypeVar("T")
SHOWN = 80  # characters of a bad line that an error repeats


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number, from 1, and the bytes of every line that is not blank, without a byte order mark.

    Raises UserError naming the file when it is absent or unreadable.
    """
    try:
        with open(path, "rb") as handle:
            for number, line in enumerate(handle, start=1):
                line = line.removeprefix(BOM) if number == 1 else line
                if line.strip():
                    yield number, line.strip()
    except FileNotFoundError:
        raise UserError(f"missing file {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from None


def read_lines(path: Path, parse: Callable[[str], T]) -> list[T]:
    """Return what `parse` makes of every line that is not blank.

    Raises UserError naming the file when it is absent, unreadable or empty, and the file and the line where that is
    no UTF-8, or `parse` raises one.
    """
    return _parsed(path, lambda line: parse(_text(line)))


def read_jsonl(path: Path, parse: Callable[[Any], T]) -> list[T]:
    """Return what `parse` makes of the JSON value of every line; errors as in `read_lines`."""
    return _parsed(path, lambda line: parse(_value(line)))


def _parsed(path: Path, parse: Callable[[bytes], T]) -> list[T]:
    values = []
    for number, line in numbered_lines(path):
        try:
            values.append(parse(line))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    if not values:
        raise UserError(f"{path} holds no lines")
    return values


def _text(line: bytes) -> str:
    try:
        return decode_text(line)
    except ValueError as error:
        raise UserError(f"{error}; write the file in UTF-8") from None


def _value(line: bytes) -> Any:
    try:
        return decode_json(line)
    except ValueError:
        text = line.decode("utf-8", errors="replace")
        shown = text if len(text) <= SHOWN else text[:SHOWN] + "…"
        raise UserError(f"not JSON: {shown!r}; write one JSON object a line") from None
