"""Finding processes again, and ending them, kindly first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil


def lives(pid: int) -> bool:
    """Whether there is such a process and it has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_server(pid: int, name: str) -> bool:
    """Whether a process lives and is a server of this kind, and not another one that was given its number."""
    try:
        return lives(pid) and any(name in part for part in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


def end_processes(processes: Sequence[psutil.Process], patience: float) -> None:
    """Ask processes to end, and kill those that have not after `patience` seconds."""
    for process in processes:
        _unless_gone(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        _unless_gone(process.kill)


def _unless_gone(act: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        act()
