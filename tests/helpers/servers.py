"""The `l2s` command as a process and in this one, and ports for the servers that it starts."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result
from helpers import forks
from helpers.small_run import environment

from flows.cli import main


def l2s(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "flows.cli", *arguments, "--home", str(home)]
    return forks.run(command, env=environment() | variables)


def l2s_here(*arguments: str, home: Path) -> Result:
    """The command in this process, for tests of what it says: a process of its own imports for five CPU seconds."""
    return CliRunner().invoke(main, [*arguments, "--home", str(home)])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_ports() -> list[str]:
    """The options of 'l2s up' that give both servers a free port."""
    return [part for name in ("mlflow", "prefect") for part in (f"--{name}-port", str(free_port()))]
