"""MLflow databases of tests: copies of one that a session makes once, since making one takes a CPU second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from helpers.session import shared_folder

from l2s_core.storage.files import atomic_path

Make = Callable[[Path], None]


def copied(make: Make) -> Make:
    """Return what makes a database by a copy of the session's first, which `make` makes."""

    def copy(path: Path) -> None:
        folder = shared_folder()
        first = folder / "mlflow.db"
        with FileLock(folder / "mlflow.lock"):
            if not first.exists():
                make(first)
        with atomic_path(path) as making:
            making.write_bytes(first.read_bytes())

    return copy
