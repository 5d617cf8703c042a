"""Databases of MLflow and Prefect: copies of those that a session makes first.

Making MLflow's takes a CPU second, and Prefect's four and a half.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from filelock import FileLock
from helpers.session import shared_folder

from l2s_core.storage.files import atomic_path

Make = Callable[[Path], None]
PREFECT = "prefect.db"


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


def keep_prefect(database: Path) -> None:
    """Keep a copy of the database of a Prefect server that has just begun, for those that begin later."""
    with (
        atomic_path(shared_folder() / PREFECT) as making,
        closing(sqlite3.connect(database)) as first,
        closing(sqlite3.connect(making)) as kept,
    ):
        first.backup(kept)


def give_prefect(folder: Path) -> None:
    """Put the kept copy, if there is one, where a Prefect server is about to make its database."""
    kept = shared_folder() / PREFECT
    if not kept.exists() or (folder / PREFECT).exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic_path(folder / PREFECT) as making:
        making.write_bytes(kept.read_bytes())
