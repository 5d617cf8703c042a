"""Which image files of a source are there."""

from __future__ import annotations

from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether there is such a file; no for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False
