"""Following tasks: a bar with counts and ETA on the terminal, a progress artifact in Prefect."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture
from tqdm import tqdm

LOOK_SECONDS = 0.5  # between looks at what a task that works through several parts has written
ARTIFACT_SECONDS = 5.0  # between two updates of the artifact: each asks the server


def follow(
    futures: Sequence[PrefectFuture[Any]],
    label: str,
    parts: Sequence[Mapping[str, int]],
    unit: str,
    written: Callable[[], set[str]] = set,
) -> list[Any]:
    """Wait for futures in order, showing how many of `unit` are done; return their results.

    `parts` say for each future what it makes: names, and how many units each is. A part counts when its future is over,
    or as soon as `written` names it. The first failure is raised at once with its own exception.
    """
    sizes = {name: size for part in parts for name, size in part.items()}
    results = []
    over: set[str] = set()
    with _shown(label, sum(sizes.values()), unit) as show:
        for future, part in zip(futures, parts, strict=True):
            while not wrapped(future).done():
                future.wait(timeout=LOOK_SECONDS)
                show(sum(sizes[name] for name in over | (written() & sizes.keys())))
            results.append(future.result())
            over |= part.keys()
            show(sum(sizes[name] for name in over))
    return results


def files_from_now(folder: Path) -> Callable[[], set[str]]:
    """Return a function that names the files of `folder`, without suffix, that were written after this call.

    Called before the work begins: a file of a worker that was quicker counts too.
    """
    before = _stamps(folder)
    return lambda: {name for name, stamp in _stamps(folder).items() if before.get(name) != stamp}


def wrapped(future: PrefectFuture[Any]) -> Any:
    """Return the runner's own future: that of a thread pool or of Dask, which both know done() and cancel()."""
    return future.wrapped_future  # type: ignore[attr-defined]  # the runners' futures have it, their base does not


def artifact_key(label: str) -> str:
    """Return a label as a key of Prefect's artifacts: lower-case letters, digits and dashes alone."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower())


def _stamps(folder: Path) -> dict[str, int]:
    """When each file of a folder, which may not be there yet, was written, by its name without suffix."""
    return {path.stem: path.stat().st_mtime_ns for path in folder.glob("[!.]*")}


@contextmanager
def _shown(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows how many of `total` are done; what was shown once is not taken back."""
    artifact: Any = create_progress_artifact(progress=0.0, key=artifact_key(label), description=label)
    updated = time.monotonic()
    with tqdm(total=total, desc=label, unit=f" {unit}", dynamic_ncols=True, smoothing=0.1) as bar:

        def show(done: int) -> None:
            nonlocal updated
            if done <= bar.n:
                return
            bar.update(done - bar.n)
            if done == total or time.monotonic() > updated + ARTIFACT_SECONDS:
                update_progress_artifact(artifact, progress=100.0 * done / total)
                updated = time.monotonic()

        yield show
