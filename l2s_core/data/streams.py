"""Reading large JSON files piece by piece."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ijson
import numpy as np

from l2s_core.errors import UserError
from l2s_core.storage.decoding import BOM

DEPTH = 100  # of nested lists and objects; the parser's time is quadratic in it
DIGITS = 400  # of a number; the parser cannot make one of thousands, and takes the process with it
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % DIGITS)
_ESCAPES = re.compile(rb"\\.", re.DOTALL)
_STEPS = np.zeros(256, np.int64)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


def streamed(file: Path, read: Callable[[BinaryIO], Iterator[Any]]) -> Iterator[Any]:
    """Yield what `read` takes from the open file.

    Raises UserError, one line, for a file that cannot be opened, is not whole JSON, no UTF-8, or nested more than
    DEPTH deep, or has a number of DIGITS digits.
    """
    try:
        with open(file, "rb") as handle:
            yield from read(_Bounded(handle))  # type: ignore[arg-type]  # ijson calls read() alone
    except (ijson.JSONError, ValueError, OSError, ArithmeticError) as error:
        raise UserError(f"{file} is not whole JSON ({_reason(error)}); fetch it again") from None


def _reason(error: Exception) -> str:
    """Return an error's text in one line; ijson's own are bytes."""
    text = error.args[0] if error.args and isinstance(error.args[0], bytes) else str(error).encode()
    return " ".join(text.decode("utf-8", errors="replace").split())


class _Bounded:
    """A file of JSON without its byte order mark, which raises ValueError where the parser would have trouble."""

    def __init__(self, handle: BinaryIO) -> None:
        self.handle = handle
        start = handle.read(len(BOM))
        self.start = b"" if start == BOM else start
        self.depth = 0
        self.in_text = 0  # 1 where the bytes so far end inside of a JSON text
        self.rest = b""  # half an escape

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        if size == 0:  # asked once, whether bytes come
            return b""
        data = self.start or self.handle.read(size)
        self.start = b""
        self._follow(self.rest + data)
        return data

    def _follow(self, data: bytes) -> None:
        """Count the brackets that stand outside of texts."""
        half = (len(data) - len(data.rstrip(b"\\"))) % 2
        data, self.rest = (data[:-1], data[-1:]) if half else (data, b"")
        pieces = (_ESCAPES.sub(b"", data) if b"\\" in data else data).split(b'"')
        outside = b"".join(pieces[self.in_text :: 2])
        self.in_text = (self.in_text + len(pieces) - 1) % 2
        if _LONG_NUMBER.search(outside):
            raise ValueError(f"a number of {DIGITS} digits or more")
        if outside:
            depths = _STEPS[np.frombuffer(outside, np.uint8)].cumsum() + self.depth
            self.depth = int(depths[-1])
            if depths.max() > DEPTH:
                raise ValueError(f"nested more than {DEPTH} deep")
