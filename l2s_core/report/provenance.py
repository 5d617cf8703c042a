"""When, from which code and on what machine a report was written."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import torch

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The time in UTC, the code's commit ("-dirty" with changes), None outside of a checkout, and the machine."""

    written: str
    commit: str | None
    machine: str

    @classmethod
    def now(cls, device: str) -> Self:
        """Return that of this moment; `device` is where the model computes."""
        return cls(written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), commit=commit(), machine=machine(device))


def commit() -> str | None:
    """Return the short name of the commit that this code is of, None where it is of no checkout of its own."""
    if not (ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def machine(device: str) -> str:
    """Return what computes: the GPU's name, or the number of CPU cores and their kind."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()}, {torch.get_num_threads()} threads)"
