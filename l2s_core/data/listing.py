"""Which image files of a source are there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from l2s_core.hashing import digest
from l2s_core.storage.files import file_digest

SMALL = 64 * 2**20  # bytes of a source's images up to which their contents count, too


def file_size(path: str | Path) -> int | None:
    """Return the bytes of a file; None where there is none, be it for a name that no file can have."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def image_bytes(folder: Path, image: str) -> int | None:
    """Return the bytes of a source's image; None where there is none, and for a name that leads out of the folder."""
    steps = Path(image)
    return None if steps.is_absolute() or ".." in steps.parts else file_size(os.path.join(folder, image))


def listing_digest(folder: Path, images: Iterable[str]) -> str:
    """Return a hex digest of the names and sizes of a source's images that are there, and of a small source's contents.

    A copy of the folder has the same, so times do not count. In a source of more than SMALL bytes an image that is
    replaced by one of just its size goes unnoticed.
    """
    found = {image: image_bytes(folder, image) for image in set(images)}
    sizes = {image: size for image, size in found.items() if size is not None}
    contents = {image: _content(folder / image) for image in sizes} if sum(sizes.values()) <= SMALL else {}
    return digest([sizes, contents])


def _content(path: Path) -> str | None:
    """Return the digest of a file; None for one that cannot be read, which is skipped when its scene is made."""
    try:
        return file_digest(path)
    except OSError:
        return None
