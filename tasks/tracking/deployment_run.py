"""One MLflow run per deployment: the figures of each of its nights, as a history that can be plotted."""

from __future__ import annotations

from collections.abc import Sequence

from l2s_core.evaluation.run import Run
from l2s_core.experiments.regression import Comparison
from l2s_core.storage.runs import run_id_of
from tasks.tracking.store import answering, experiment_id, find_run, log_metrics, open_store
from tasks.tracking.titles import NOTE, RUN_ID

DEPLOYMENT = "l2s.deployment"  # tag: the deployment's name
NIGHTS = "nights"


@answering()
def log_night(run: Run, deployment: str, rows: Sequence[Comparison]) -> None:
    """Add a night's figures, good or not, to the history of its deployment."""
    client = open_store(run.home)
    found = find_run(client, f"tags.`{DEPLOYMENT}` = '{deployment}'")
    tags = {
        DEPLOYMENT: deployment,
        NOTE: f"Every night of the deployment {deployment}, one step each.",
    }
    history = found or client.create_run(experiment_id(client), run_name=f"deployment {deployment}", tags=tags)
    run_id = history.info.run_id
    night = int(history.data.metrics.get(NIGHTS, 0)) + 1
    figures = {row.figure.replace(", ", "/"): row.now for row in rows}
    log_metrics(client, run_id, {**figures, "inside": float(all(row.ok for row in rows)), NIGHTS: night}, night)
    client.set_tag(run_id, RUN_ID, run_id_of(run.paths))
    client.set_terminated(run_id, "FINISHED")
