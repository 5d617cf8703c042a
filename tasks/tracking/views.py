"""Saved views of the runs page in MLflow's UI: its headline columns, sorted; in the menu "Views" of the experiment.

MLflow keeps a saved view as a tag of the experiment: a name, a time in ms, and the page's state as JSON.
"""

from __future__ import annotations

import json
from time import time

from mlflow import MlflowClient

PREFIX = "mlflow.sharedViewState."
CLASSIFIERS = "l2s-classifiers"
SWEEPS = "l2s-sweeps"
_METRICS = {
    CLASSIFIERS: (
        "bench_steered_correct",
        "bench_steered_all_found",
        "bench_steered_gradients",
        "bench_steered_seconds",
        "test_accuracy",
        "test_accuracy_wrong_prompts",
        "bench_plain_correct",
    ),
    SWEEPS: ("correct", "all_found", "gradients", "seconds", "test_accuracy", "train_seconds"),
}
_VIEWS = {
    CLASSIFIERS: ("Classifiers by what they do to images", "tags.`l2s.classifier` != ''"),
    SWEEPS: ("Points of sweeps", "tags.`l2s.sweep` != ''"),
}


def save_views(client: MlflowClient, experiment_id: str) -> None:
    """Write the views onto the experiment; writing them again changes nothing but their time."""
    for slug, (name, query) in _VIEWS.items():
        columns = [f"metrics.`{metric}`" for metric in _METRICS[slug]]
        state = {
            "searchFilter": query,
            "orderByKey": columns[0],
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "selectedColumns": ["attributes.`Created`", *columns],
        }
        view = {"name": name, "createdAt": int(time() * 1000), "state": json.dumps(state)}
        client.set_experiment_tag(experiment_id, PREFIX + slug, json.dumps(view))


def view_url(server: str, experiment_id: str, slug: str) -> str:
    """Return the page that opens with a view; `server` is MLflow's address."""
    return f"{server}/#/experiments/{experiment_id}/runs?viewStateShareKey={slug}"
