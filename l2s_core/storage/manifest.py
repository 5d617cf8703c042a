"""Folders that list the SHA-256 of every file in them, in the layout of `sha256sum`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from l2s_core.errors import UserError
from l2s_core.storage.files import file_digest
from l2s_core.storage.lines import read_lines

NAME = "SHA256SUMS"
INSTALL_AGAIN = "install learn-to-steer again"
_DIGITS = 64


def require_listed(root: Path, part: Path) -> None:
    """Raise UserError unless every file of `part`, a file or a folder below `root`, is as the list of `root` says.

    A file that did not change is read once a process.
    """
    part = part.resolve()
    root = root.resolve()
    listed = {root / name: stated for name, stated in _listed(root).items()}
    for path in sorted(path for path in listed if path.is_relative_to(part)):
        if not path.is_file():
            raise UserError(f"missing file {path}, which ships with this project; {INSTALL_AGAIN}")
        if file_digest(path, _DIGITS) != listed[path]:
            raise UserError(f"{path} ships with this project and was changed or damaged; {INSTALL_AGAIN}")


@lru_cache(maxsize=8)
def _listed(root: Path) -> dict[str, str]:
    """Return the digests of a folder's list by the files' names, relative to it."""
    entries = [line.split(maxsplit=1) for line in read_lines(root / NAME, str)]
    return {name: stated for stated, name in entries}
