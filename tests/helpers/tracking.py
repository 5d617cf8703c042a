"""What a home's own MLflow store holds."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient


def mlflow_client(home: Path) -> MlflowClient:
    """A client of the store, its registry included: by default that is the one of the home opened last."""
    uri = f"sqlite:///{home / 'mlflow.db'}"
    return MlflowClient(uri, registry_uri=uri)
