"""Ending processes, kindly first."""

from __future__ import annotations

from collections.abc import Sequence

import psutil


def end_processes(processes: Sequence[psutil.Process], patience: float) -> None:
    """Ask processes to end, and kill those that have not after `patience` seconds."""
    for process in processes:
        _unless_gone(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        _unless_gone(process.kill)


def _unless_gone(act) -> None:
    try:
        act()
    except psutil.NoSuchProcess:
        pass
