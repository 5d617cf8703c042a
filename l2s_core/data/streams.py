"""Reading large JSON files piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from l2s_core.errors import UserError


def streamed(file: Path, read: Callable[[BinaryIO], Iterator[Any]]) -> Iterator[Any]:
    """Yield what `read` takes from the open file; raises UserError for a file that is not whole JSON."""
    with open(file, "rb") as handle:
        items = read(handle)
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except ijson.JSONError as error:
                raise UserError(f"{file} is not whole JSON ({error}); fetch it again") from None
            yield item
