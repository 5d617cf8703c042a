"""Classifiers that MLflow holds, by their address."""

from __future__ import annotations

from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from l2s_core.classifier.checkpoint import DESCRIPTION
from l2s_core.errors import UserError, first_line
from tasks.tracking.store import open_store

NAME = "classifier"  # of the model that a classifier's run logs
DEFAULT_HOME = Path("mlruns")


def stored_classifier(address: str, home: Path | None = None) -> Path:
    """Return the local folder of "models:/NAME@ALIAS", "models:/NAME/VERSION" or "runs:/ID".

    The store is that of the folder of runs, by default `mlruns`, or the one that MLFLOW_TRACKING_URI names. Raises
    UserError where it has no such classifier.
    """
    open_store(home or DEFAULT_HOME)
    scheme, _, rest = address.partition(":/")
    uri = f"{address}/{NAME}" if scheme == "runs" and "/" not in rest.strip("/") else address
    try:
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"MLflow has no classifier {address!r} ({first_line(error)}); allowed: models:/NAME@ALIAS, "
            "models:/NAME/VERSION, runs:/ID, as 'l2s ui' shows them"
        ) from None
    found = sorted(folder.rglob(DESCRIPTION))
    if not found:
        raise UserError(
            f"{address!r} holds no classifier: no {DESCRIPTION} in it; name a model that 'l2s train' logged"
        )
    return found[0].parent
