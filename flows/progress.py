"""Following mapped tasks: a bar with counts and ETA on the terminal, a progress artifact in Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture
from tqdm import tqdm


def follow(futures: Sequence[PrefectFuture], label: str, sizes: Sequence[int], unit: str) -> list[Any]:
    """Wait for futures in order, showing how many of `unit` are done; return their results.

    The first failure is raised at once with its own exception.
    """
    key = label.lower().replace(" ", "-").replace("/", "-")
    artifact = create_progress_artifact(progress=0.0, key=key, description=label)
    results, done = [], 0
    with tqdm(total=sum(sizes), desc=label, unit=f" {unit}", dynamic_ncols=True, smoothing=0.1) as bar:
        for future, size in zip(futures, sizes, strict=True):
            results.append(future.result())
            done += size
            bar.update(size)
            update_progress_artifact(artifact, progress=100.0 * done / max(1, sum(sizes)))
    return results
