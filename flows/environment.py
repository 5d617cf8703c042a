"""The process environment every command and flow starts from: local, quiet, offline.

Imported before Prefect, MLflow and torch, which read these variables when they are imported. Whatever a
user has set wins.
"""

from __future__ import annotations

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
        "OMP_WAIT_POLICY": "PASSIVE",  # the server's process and torch share the cores
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


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
