"""What orchestration costs: wall time of a flow less the work of its stages, in few and in many shards.

Usage: ``python -m flows.overhead [SHARDS …]``; without numbers 1 and 200.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path

from flows.environment import prepare

SCENES = 200
SETTINGS = {
    "name": "overhead",
    "data.train": 46,
    "data.val": 2,
    "data.test": 2,
    "inversion.iterations": 1,
    "inversion.min_psnr": 0,
    "backbone.steps": 4,
    "capture.steps": [1],
    "steering.until_step": 2,
    "steering.updates": 1,
    "classifier.epochs": 1,
    "classifiers": {},
    "benchmark": "dev",
    "benchmark.prompts": 4,
    "benchmark.seeds": 1,
}


class _Work(logging.Handler):
    """Adds up the seconds that stages say they have built for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.stages = 0

    def emit(self, record: logging.LogRecord) -> None:
        seconds = getattr(record, "seconds", None)
        if seconds is not None:
            self.seconds = self.seconds + seconds
            self.stages = self.stages + 1


def measure(shards: int, home: Path) -> tuple[int, float, float]:
    """Run the chain's beginning, up to the classifier.

    Return (stages built, seconds in all, seconds of their work).
    """
    from flows.reproduce import train

    work = _Work()
    log = logging.getLogger("l2s")
    log.addHandler(work)
    try:
        began = time.perf_counter()
        train("mini-sd", {**SETTINGS, "shard": -(-SCENES // shards)}, home)
        return work.stages, time.perf_counter() - began, work.seconds
    finally:
        log.removeHandler(work)


def main() -> None:
    """Print a line for every number of shards; a first run, unmeasured, starts Prefect's server and loads the model."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        prepare(home)
        measure(2, home / "warm")
        print(f"{'shards':>8s}{'stages':>8s}{'seconds':>10s}{'work':>10s}{'overhead':>10s}{'a stage':>10s}")
        for shards in map(int, sys.argv[1:] or (1, 200)):
            stages, seconds, work = measure(shards, home / str(shards))
            print(
                f"{shards:8d}{stages:8d}{seconds:10.1f}{work:10.1f}{seconds - work:10.1f}"
                f"{(seconds - work) / stages:10.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
