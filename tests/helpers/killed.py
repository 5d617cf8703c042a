"""Runs that are killed in one stage after the other: a process that imports once what a run needs, and forks each run.

`python -m helpers.killed HOME STAGE… -- COMMAND…`, where COMMAND is that of the `l2s` command.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from random import Random

from flows.cli import main as l2s
from flows.options import start

NEEDED = (
    "flows.reproduce",
    "flows.summary",
    "l2s_core.backbones.unet",
    "l2s_core.evaluation.detectors.segformer",
    "mlflow.pyfunc",
)
"""What a run imports sooner or later; none of it starts a thread, which a fork would lack."""
REPORTS = "reports"
PATIENCE = 200.0  # seconds


def first_file(home: Path, stage: str) -> bool:
    """Whether a stage has written its first file."""
    return any(home.glob(f"{REPORTS}/*" if stage == REPORTS else f"stages/{stage}/*/[!.]*"))


def kill_when(home: Path, stage: str, process: int, after: float) -> None:
    """Kill the group of a run, a child of this process, some seconds after the first file of a stage."""
    deadline = time.monotonic() + PATIENCE
    while not first_file(home, stage):
        ended, _ = os.waitpid(process, os.WNOHANG)
        assert not ended and time.monotonic() < deadline, f"the run ended before {stage}"
        time.sleep(0.02)
    if stage != REPORTS:
        time.sleep(after)
        assert not (home / REPORTS).exists()
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)


def main(arguments: Sequence[str]) -> None:
    """Kill a run in each of the stages; a fork has nothing of the run before it but the modules."""
    end = arguments.index("--")
    home, *stages = arguments[:end]
    start(Path(home))
    for module in NEEDED:
        import_module(module)
    after = Random(0)
    for stage in stages:
        process = os.fork()
        if process == 0:
            os.setsid()
            l2s(list(arguments[end + 1 :]))
        kill_when(Path(home), stage, process, after.uniform(0, 0.5))


if __name__ == "__main__":
    main(sys.argv[1:])
