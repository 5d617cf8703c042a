"""Where runs are tracked: sqlite and a folder of artifacts by default, or the server a user names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.logging_utils import MLFLOW_LOGGING_STREAM
from mlflow.utils.validation import MAX_PARAMS_TAGS_PER_BATCH
from sqlalchemy.exc import SQLAlchemyError

from l2s_core.errors import UserError, masked
from l2s_core.storage.files import atomic_path
from l2s_core.storage.lock import exclusive
from tasks.database import create_databases, database_url
from tasks.tracking.views import save_views

EXPERIMENT = "learn-to-steer"
REGISTERED = "relation-"  # what names of registered models begin with; the rest is the backbone
PARENT = "mlflow.parentRunId"  # MLflow's own tag: what makes the UI nest a run below another
REFUSED = 400  # HTTP's codes from here on say that a request is wrong
OUTAGE = 500  # and from here on that the server is
LONGEST = 6000  # characters of a setting that MLflow takes


@contextmanager
def without_notes() -> Iterator[None]:
    """Keep MLflow's notes ("Successfully registered model …") out of what a run shows; errors still rise."""
    before = MLFLOW_LOGGING_STREAM.enabled
    MLFLOW_LOGGING_STREAM.enabled = False
    try:
        yield
    finally:
        MLFLOW_LOGGING_STREAM.enabled = before


def tracking_uri(home: Path) -> str:
    """Return MLFLOW_TRACKING_URI if set, else the folder's own store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or own_store_uri(home)


def own_store_uri(home: Path) -> str:
    """Return the database of this folder of runs: PostgreSQL if one is set, else sqlite under `home`."""
    return database_url("mlflow") or f"sqlite:///{(home / 'mlflow.db').resolve()}"


def open_store(home: Path) -> MlflowClient:
    """Return a client of the store, with the experiment created; raises UserError when it cannot be reached."""
    uri = tracking_uri(home)
    own = uri == own_store_uri(home)
    if own:
        _require_plain(home)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        with exclusive(
            home, lambda: None, name=".mlflow.lock"
        ):  # two processes that create one database at once break it
            create_databases()
            if own and uri.startswith("sqlite") and not (home / "mlflow.db").exists():
                _create_sqlite(home / "mlflow.db")
            client = MlflowClient(uri, registry_uri=uri)
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                location = (home / "artifacts").resolve().as_uri() if own else None
                save_views(client, client.create_experiment(EXPERIMENT, artifact_location=location))
    except MlflowException as error:
        raise UserError(
            f"cannot reach the MLflow store {masked(uri)} ({_reason(error)}); start it, or unset MLFLOW_TRACKING_URI"
        ) from None
    except SQLAlchemyError as error:
        raise UserError(
            f"the MLflow store {masked(uri)} is no whole database ({_reason(error)}); move it away, "
            "and the same command makes a new one"
        ) from None
    mlflow.set_experiment(EXPERIMENT)
    return client


def _reason(error: Exception) -> str:
    """Return the first line of what an error says, short and without a password."""
    return masked(str(error).splitlines()[0][:160])


def _create_sqlite(path: Path) -> None:
    """Give the file its name when it has all tables: MLflow cannot go on with a database whose making was killed."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with atomic_path(path) as making:
        store = SqlAlchemyStore(f"sqlite:///{making.resolve()}", (path.parent / "artifacts").resolve().as_uri())
        store.engine.dispose()


@contextmanager
def answering() -> Iterator[None]:
    """Turn a store that stops answering, or refuses something, into one clear line that says which of the two it is.

    What was computed is on disk and is logged by the next call.
    """
    try:
        yield
    except MlflowException as error:
        reason = _reason(error)
        store = f"the MLflow store {masked(mlflow.get_tracking_uri())}"
        if REFUSED <= error.get_http_status_code() < OUTAGE:
            raise UserError(f"{store} refuses what is logged ({reason}); what was computed is kept") from None
        raise UserError(
            f"{store} stopped answering ({reason}); start it again, and the same command goes on from here"
        ) from None


def registered_name(model: str) -> str:
    """Return the name under which the classifiers of a backbone are registered; MLflow allows no ':' or '/' in it."""
    return REGISTERED + re.sub(r"[^\w.-]+", "-", Path(model).name)


def _require_plain(home: Path) -> None:
    """Raise UserError for a folder of runs whose path MLflow reads as part of an address."""
    odd = [character for character in "%?#" if character in str(home.resolve())]
    if odd:
        raise UserError(f"MLflow cannot write below {home.resolve()}, for its {odd[0]!r}; choose another --home")


def watch_machine(run_id: str) -> SystemMetricsMonitor:
    """Begin to log the load of CPU, memory and GPU onto a run, a sample every ten seconds; `finish` ends it."""
    monitor = SystemMetricsMonitor(run_id, resume_logging=True)
    monitor.start()
    return monitor


def find_run(client: MlflowClient, query: str) -> Run | None:
    """Return the newest run of the experiment that a filter matches, or None."""
    runs = client.search_runs([experiment_id(client)], filter_string=query, max_results=1)
    return runs[0] if runs else None


def log_metrics(client: MlflowClient, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
    """Log values of one step in one request."""
    now = int(time() * 1000)
    client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in values.items()])


def log_params(client: MlflowClient, run_id: str, values: Mapping[str, Any]) -> None:
    """Log settings, as many in one request as the store takes."""
    params = [Param(key, str(value)[:LONGEST]) for key, value in values.items()]
    for first in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
        client.log_batch(run_id, params=params[first : first + MAX_PARAMS_TAGS_PER_BATCH])


def experiment_id(client: MlflowClient) -> str:
    """Return the experiment's id; the store has it once it is open."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        raise UserError(f"the MLflow store has no experiment {EXPERIMENT!r} any more; run the same command again")
    return experiment.experiment_id
