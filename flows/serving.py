"""`l2s serve`: the deployments of configs/deployments/prefect.yaml, run by this process when they are due."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from prefect import serve
from prefect.deployments.runner import RunnerDeployment

from l2s_core.config import CONFIG_FOLDER, read_yaml
from l2s_core.errors import UserError, unknown_name

FILE = CONFIG_FOLDER / "deployments" / "prefect.yaml"


def serve_deployments(names: Sequence[str], home: Path, interval: float | None) -> None:
    """Serve the named deployments, or all, until interrupted; `interval`, seconds, takes the place of their schedules.

    Raises UserError without a Prefect server: schedules live there.
    """
    if not os.environ.get("PREFECT_API_URL"):
        raise UserError("no Prefect server, and schedules live on one; start it with 'l2s up', or set PREFECT_API_URL")
    entries = {entry["name"]: entry for entry in read_yaml(FILE)["deployments"]}
    for name in names:
        if name not in entries:
            raise unknown_name("deployment", name, entries)
    chosen = [deployment_of(entries[name], home, interval) for name in names or entries]
    click.echo(f"serving {', '.join(deployment.name for deployment in chosen)}; Ctrl-C ends it")
    serve(*chosen, pause_on_shutdown=False, print_starting_message=False, limit=1)


def deployment_of(entry: dict[str, Any], home: Path, interval: float | None) -> RunnerDeployment:
    """Return an entry of prefect.yaml as a deployment of this process, its runs in `home`."""
    path, _, name = entry["entrypoint"].partition(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    parameters = {**entry.get("parameters", {}), "home": str(home)}
    schedule: dict[str, Any] = {"interval": timedelta(seconds=interval)} if interval else {}
    schedules = entry.get("schedules")
    if schedules and not interval:
        from prefect.schedules import Cron

        schedule = {"schedules": [Cron(item["cron"], timezone=item.get("timezone")) for item in schedules]}
    return flow.to_deployment(
        name=entry["name"], description=entry.get("description"), parameters=parameters, **schedule
    )
