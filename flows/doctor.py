"""What `l2s doctor` prints; no flow: it must work where nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from l2s_core.config import load_run_config
from l2s_core.planning.doctor import examine
from tasks.rehearsal import last_rehearsal

MARKS = {True: "ok", False: "FAIL", None: ""}


def doctor(config: str, overrides: dict[str, Any] | None, home: Path) -> bool:
    """Print every check of a run; return whether all are well."""
    run = load_run_config(config, overrides)
    checks = examine(run, home, last_rehearsal(home, run))
    for check in checks:
        click.echo(f"{MARKS[check.ok]:4}  {check.name:22}  {check.detail}")
    failed = [check.name for check in checks if check.ok is False]
    click.echo(f"\n{run.name} cannot run here: {', '.join(failed)}" if failed else f"\n{run.name} can run here")
    return not failed
