"""Runs that are killed in one stage after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from random import Random

from helpers.small_run import start

STAGES = ("scenes", "noise", "maps", "trajectories", "classifier", "samples", "verdicts")
REPORTS = "reports"
PATIENCE = 400.0  # seconds


def first_file(home: Path, stage: str) -> bool:
    """Whether a stage has written its first file."""
    return any(home.glob(f"{REPORTS}/*" if stage == REPORTS else f"stages/{stage}/*/[!.]*"))


def kill_when(home: Path, stage: str, process: subprocess.Popen, after: float) -> None:
    """Kill the group of a run some seconds after the first file of a stage."""
    deadline = time.monotonic() + PATIENCE
    while not first_file(home, stage):
        assert process.poll() is None and time.monotonic() < deadline, f"the run ended before {stage}"
        time.sleep(0.02)
    if stage != REPORTS:
        time.sleep(after)
        assert not (home / REPORTS).exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def kill_in_every_stage(home: Path) -> None:
    """Begin the small run again and again, and kill it in each of its stages.

    The signal comes some time after the stage's first file. The first run has a Prefect server of its own, which goes
    with it.
    """
    after = Random(0)
    kill_when(home, "catalogue", start(home, alone=True), 0.2)
    for stage in (*STAGES, REPORTS):
        kill_when(home, stage, start(home), after.uniform(0, 0.5))
