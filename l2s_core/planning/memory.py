"""Peak memory of a block of code: of the GPU where there is one, of the process otherwise."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """A context manager; after the block `peak` holds bytes.

    CUDA: the allocator's peak, weights included. CPU: the peak of the process's resident memory, reset at
    the start of the block where Linux allows it, else the peak since the process began.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.peak = 0

    def __enter__(self) -> PeakMemory:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):
                _RESET.write_text("5")
        return self

    def __exit__(self, *_: object) -> None:
        self.peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else _resident_peak()


def _resident_peak() -> int:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def free_bytes(device: str) -> int:
    """Return the free memory of a device."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    import psutil

    return psutil.virtual_memory().available
