"""Files that carry a checksum of their own bytes and the place that they were written for.

The checksum is SHA-256 over the whole file, read as if its own digits were zeros. It stands, with the place, where the
format keeps text of its own: in the metadata of safetensors and Parquet, as two keys of a JSON object. So one flipped
bit anywhere is noticed, and so is a whole file in another one's place.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from l2s_core.errors import UserError, first_line
from l2s_core.storage.files import atomic_path

STAGES = "stages"  # folder of stage outputs, in the folder of runs
REBUILD = "run again with --rebuild to write it anew"
PLACE = "place"
CHECKSUM = "checksum"
_MARK = b"l2s-sha256:"
_DIGITS = 64
_ZEROS = b"0" * _DIGITS

T = TypeVar("T")


def seal_for(path: Path) -> dict[str, str]:
    """Return what a file's writer puts into it: its place, and the checksum as zeros, which `sealed_path` fills in."""
    return {PLACE: place_of(path), CHECKSUM: (_MARK + _ZEROS).decode()}


def place_of(path: Path) -> str:
    """Return the place of a file: stage, address and name of a stage's output, folder and name of another file."""
    parts = Path(os.path.abspath(path)).parts
    return "/".join(parts[-3:] if is_stage_output(path) else parts[-2:])


def is_stage_output(path: Path) -> bool:
    """Whether a file lies where a stage of a run writes."""
    return Path(os.path.abspath(path)).parts[-4:-3] == (STAGES,)


@contextmanager
def sealed_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name, as `atomic_path` does; fill in the checksum of what the block has written there.

    Raises ValueError where that does not hold `seal_for(path)` exactly once.
    """
    with atomic_path(path) as temporary:
        yield temporary
        data = temporary.read_bytes()
        if data.count(_MARK) != 1:
            raise ValueError(f"{path} is written with {data.count(_MARK)} seals instead of one")
        start = data.index(_MARK) + len(_MARK)
        with open(temporary, "r+b") as handle:
            handle.seek(start)
            handle.write(_digest_of(data, start))


def read_sealed(path: Path, parse: Callable[[bytes], T], *, what: str = "shard", remedy: str = REBUILD) -> T:
    """Return what `parse` makes of a file's bytes, once their checksum is found right.

    Raises UserError, one line, for a file that is missing, was written without a checksum, is damaged, or holds
    something else than `parse` knows.
    """
    with readable(path, what, remedy):
        data = Path(path).read_bytes()
        require_checksum(path, data, remedy)
        return parse(data)


def require_sealed(path: Path, *, what: str = "shard", remedy: str = REBUILD) -> None:
    """Check the checksum of a file without holding it in memory; one that did not change is read once a process."""
    with readable(path, what, remedy):
        status = os.stat(path)
        _checked(str(path), remedy, status.st_size, status.st_mtime_ns, status.st_ino)


def require_checksum(path: Path, data: bytes | mmap.mmap, remedy: str) -> None:
    """Raise UserError where the bytes of a file are not those that its checksum was made of."""
    found = data.find(_MARK)
    if found < 0:
        raise UserError(f"{path} has no checksum: it is damaged, or an earlier version wrote it; {remedy}")
    start = found + len(_MARK)
    if _digest_of(data, start) != data[start : start + _DIGITS]:
        raise UserError(f"{path} is damaged: its bytes do not match its checksum; {remedy}")


def require_place(path: Path, stated: str | None, remedy: str = REBUILD, *, wanted: str | None = None) -> None:
    """Raise UserError for a file that was written for another place than `wanted`, by default where it lies."""
    if stated != (wanted or place_of(path)):
        raise UserError(f"{path} was written as {stated}, and is another output's; {remedy}")


@contextmanager
def readable(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Turn whatever is raised in reading a file into one line that names it, what it should hold, and the way out."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"missing {what} {path}; {remedy}") from None
    except Exception as error:  # libraries raise many kinds for one cause: a file that holds something else
        raise UserError(f"{path} holds no {what} ({type(error).__name__}: {first_line(error)}); {remedy}") from error


@lru_cache(maxsize=4096)
def _checked(path: str, remedy: str, size: int, _changed: int, _inode: int) -> None:
    if size == 0:
        require_checksum(Path(path), b"", remedy)
        return
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        require_checksum(Path(path), data, remedy)


def _digest_of(data: bytes | mmap.mmap, start: int) -> bytes:
    """Return the digits of a file's checksum, which stand from `start` on."""
    sha = hashlib.sha256()
    with memoryview(data) as view, view[:start] as before, view[start + _DIGITS :] as after:
        sha.update(before)
        sha.update(_ZEROS)
        sha.update(after)
    return sha.hexdigest().encode()
