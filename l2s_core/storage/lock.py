"""One writer at a time in a folder of runs. The lock is the system's: it ends with its process, however that ends."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from l2s_core.storage.files import make_folder

RUN = ".lock"


@contextmanager
def exclusive(home: Path, waiting: Callable[[], None], name: str = RUN) -> Iterator[Callable[[str], None]]:
    """Hold the folder's lock of this name for this process; `waiting` is called when another one must end first.

    Yields a function that writes into the lock who holds it.
    """
    with open(make_folder(home) / name, "a+", encoding="utf-8") as handle:
        if not _take(handle, fcntl.LOCK_EX):
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        _sign(handle, "")
        try:
            yield lambda owner: _sign(handle, owner)
        finally:
            _sign(handle, "")


def holder(home: Path) -> str | None:
    """Return what the process that holds the folder wrote into the lock.

    That is "" until it has written, and None when nobody holds the folder.
    """
    try:
        with open(home / RUN, encoding="utf-8") as handle:
            if _take(handle, fcntl.LOCK_SH):
                return None
            return handle.read()
    except FileNotFoundError:
        return None


def _take(handle: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(handle: IO[str], owner: str) -> None:
    handle.seek(0)
    handle.truncate()
    handle.write(owner)
    handle.flush()
