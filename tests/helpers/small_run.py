"""The small run that many tests make: its settings, how to start it, and what it leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from helpers import forks
from helpers.forks import ROOT
from helpers.prefect_server import shared_server

SETTINGS = {
    "name": "tiny",
    "data.train": 2,
    "data.val": 1,
    "data.test": 1,
    "inversion.iterations": 1,
    "inversion.min_psnr": 5,
    "backbone.steps": 3,
    "capture.steps": [1, 2],
    "steering.until_step": 2,
    "steering.updates": 2,
    "classifier.epochs": 3,
    "classifier.maps": "inverted",
    "benchmark.prompts": 2,
    "benchmark.seeds": 1,
    "trajectories": 1,
    "classifiers": "{true-only: {prompts: 'true'}, sampled: {maps: trajectories}}",
    "shard": 6,
}


def command(home: Path, *extra: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *options("--home", str(home), *extra)]


def environment() -> dict[str, str]:
    """This process's environment without what other tests made Prefect and MLflow point at."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_TRACKING"))}


def shared_environment() -> dict[str, str]:
    """The same, with the Prefect server that the tests share."""
    return environment() | {"PREFECT_API_URL": shared_server()}


def reproduce(home: Path, *extra: str, alone: bool = False) -> subprocess.CompletedProcess:
    """Make the small run; `alone` with a Prefect server of its own, as without `l2s up`."""
    return forks.run(command(home, *extra), env=environment() if alone else shared_environment())


def options(*extra: str) -> list[str]:
    """The small run as arguments of the `l2s` command, without its home."""
    return [
        "reproduce",
        "mini-sd",
        *(part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")),
        *extra,
    ]


def numbers(home: Path) -> dict:
    """The summary without what depends on the clock."""
    summary = json.loads((home / "reports" / "tiny" / "summary.json").read_text())
    del summary["checksum"]
    return json.loads(re.sub(r'"(seconds|peak_bytes)": [^,}]+', r'"\1": 0', json.dumps(summary)))


def shards(home: Path) -> dict[Path, int]:
    return {path.relative_to(home): path.stat().st_mtime_ns for path in (home / "stages").rglob("*") if path.is_file()}


def inherit(other: Path, home: Path, *stages: str) -> None:
    """Copy the outputs of some stages from another home."""
    for stage in stages:
        shutil.copytree(other / "stages" / stage, home / "stages" / stage)


def start(home: Path, *extra: str, alone: bool = False, **variables: str) -> subprocess.Popen:
    return begin(command(home, *extra), alone=alone, **variables)


def begin(arguments: list[str], *, alone: bool = False, **variables: str) -> subprocess.Popen:
    """Start a command in a session of its own, its output in one pipe."""
    return forks.Forked(
        arguments,
        cwd=ROOT,
        env=(environment() if alone else shared_environment()) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
