"""Saved views of the runs page in MLflow's UI: its headline columns, sorted; in the menu "Views" of the experiment.

MLflow keeps a saved view as a tag of the experiment: a name, a time in ms, and the page's state as JSON.
"""

from __future__ import annotations

import json
from time import time

from mlflow import MlflowClient

from tasks.tracking.metrics import HEADLINE

KIND = "custom_model_development"
MLFLOW_EXPERIMENT_KIND = "mlflow.experimentKind"  # MLflow's own tag
PREFIX = "mlflow.sharedViewState."
RUN_NAME = "attributes.`Run Name`"
CLASSIFIERS = "l2s-classifiers"
SWEEPS = "l2s-sweeps"
_METRICS = {
    CLASSIFIERS: (
        HEADLINE,
        "bench/steered/all_found",
        "bench/steered/gradients",
        "bench/steered/seconds",
        "test/accuracy",
        "test/accuracy_wrong_prompts",
        "plain/correct",
    ),
    SWEEPS: (
        HEADLINE,
        "bench/steered/all_found",
        "bench/steered/gradients",
        "bench/steered/seconds",
        "test/accuracy",
        "train/seconds",
    ),
}
_VIEWS = {
    CLASSIFIERS: ("Classifiers by what they do to images", "tags.`l2s.classifier` != ''"),
    SWEEPS: ("Points of sweeps", "tags.`l2s.point` != 'parent'"),
}


def save_views(client: MlflowClient, experiment_id: str) -> None:
    """Write the views onto the experiment; writing them again changes nothing but their time.

    The experiment is also marked as one of models that are trained, whose pages are of runs, not of traces and judges.
    """
    client.set_experiment_tag(experiment_id, MLFLOW_EXPERIMENT_KIND, KIND)
    for slug, (name, query) in _VIEWS.items():
        columns = [f"metrics.`{metric}`" for metric in _METRICS[slug]]
        widths = {column: max(100, 9 * len(metric)) for column, metric in zip(columns, _METRICS[slug], strict=True)}
        state = {
            "searchFilter": query,
            "orderByKey": columns[0],
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "selectedColumns": ["attributes.`Created`", *columns],
            "columnOrder": [RUN_NAME, *columns],
            "columnWidths": {RUN_NAME: 260, **widths},
        }
        view = {"name": name, "createdAt": int(time() * 1000), "state": json.dumps(state)}
        client.set_experiment_tag(experiment_id, PREFIX + slug, json.dumps(view))


def view_url(server: str, experiment_id: str, slug: str) -> str:
    """Return the page that opens with a view; `server` is MLflow's address."""
    return f"{server}/#/experiments/{experiment_id}/runs?viewStateShareKey={slug}&workflowType=machine_learning"
