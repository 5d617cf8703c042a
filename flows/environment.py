"""The process environment every command and flow starts from: local, quiet, offline.

Imported before Prefect, MLflow and torch, which read these variables when they are imported. Whatever a
user has set wins.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

HOME = Path(os.environ.get("L2S_HOME") or Path(__file__).parents[1] / "mlruns")


def prepare(home: Path = HOME) -> None:
    """Set the defaults; `home` is the folder of runs."""
    defaults = {
        "PREFECT_HOME": str(Path(home).resolve() / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # commands print their own progress and errors
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc keep the memory that tensors free instead of giving every large block back to the system at once.

    A UNet frees and takes the same few hundred MB in each pass; without page faults in between it is faster.
    A user's own MALLOC_ settings win; other C libraries are left alone.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # M_ constants of malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)


def quiet_libraries() -> None:
    """Silence the loading bars and advice of transformers, diffusers and MLflow; errors still show."""
    import logging
    import warnings

    import diffusers
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    diffusers.logging.set_verbosity_error()
    logging.getLogger("alembic").setLevel(logging.ERROR)
    show = warnings.showwarning

    def show_others(message, category, filename, *rest) -> None:
        if "/mlflow/" not in filename.replace("\\", "/"):
            show(message, category, filename, *rest)

    warnings.showwarning = show_others  # MLflow switches its advice back on where filters would hide it
