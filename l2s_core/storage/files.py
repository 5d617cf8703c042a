"""Atomic files and content hashes: what makes every stage safe to kill."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from l2s_core.errors import UserError
from l2s_core.storage.decoding import decode_json


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` only if the block succeeds.

    The bytes are on the disk before the name is, and the name is when this returns: not even a power failure leaves
    half a file under it. Raises UserError when the disk is full; what was there before stays.
    """
    path = Path(path)
    temporary = None
    make_folder(path.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp" + path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # temporary files are private, results are not
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except Exception as error:
        if not _disk_full(error):
            raise
        raise UserError(
            f"no space left on the disk of {path.parent}; "
            f"free some ('l2s clean'), or choose another --home, and run again"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _disk_full(error: Exception) -> bool:
    """Whether an error says so: as its number, or in the words of a library that keeps none."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error)


def _flush(path: Path) -> None:
    """Have the system write a file's bytes, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """Return the process's umask; it can only be read by setting it."""
    value = os.umask(0o077)
    os.umask(value)
    return value


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; raises UserError where that is not allowed."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}; choose a writable folder") from None
    if not os.access(path, os.W_OK):
        raise UserError(f"cannot write to {path}: permission denied; choose a writable folder")
    return Path(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Return a JSON-able value as the text of a file."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file; raises UserError naming the file when it is absent or broken."""
    try:
        return decode_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"missing file {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def file_digest(path: Path, length: int = 16) -> str:
    """Return a hex digest of a file's bytes; a file that did not change is read once a process."""
    status = os.stat(path)
    return _file_digest(str(path), status.st_size, status.st_mtime_ns, status.st_ino)[:length]


@lru_cache(maxsize=1024)
def _file_digest(path: str, _size: int, _changed: int, _inode: int) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
