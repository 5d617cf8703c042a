"""The `l2s` command as a process and in this one, and ports for the servers that it starts."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result
from helpers.small_run import ROOT, environment

from flows.cli import main


def l2s(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, "--home", str(home)],
        cwd=ROOT,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=400,
    )


def l2s_here(*arguments: str, home: Path) -> Result:
    """The command in this process, for tests of what it says: a process of its own imports for six CPU seconds."""
    return CliRunner().invoke(main, [*arguments, "--home", str(home)])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_ports() -> list[str]:
    """The options of 'l2s up' that give both servers a free port."""
    return [part for name in ("mlflow", "prefect") for part in (f"--{name}-port", str(free_port()))]
