"""The MLflow UI, on this machine only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from tasks.tracking.store import open_store, tracking_uri


def serve(home: Path, port: int) -> None:
    """Run `mlflow ui` on 127.0.0.1 until interrupted."""
    open_store(home)
    click.echo(f"MLflow UI: http://127.0.0.1:{port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracking_uri(home), "--host", "127.0.0.1", "--port", str(port)]
    try:
        sys.exit(subprocess.call(command))
    except KeyboardInterrupt:
        sys.exit(0)
