"""What changed in a run against the last one of the same configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2s_core.config.dotted import dotted
from l2s_core.errors import UserError
from l2s_core.evaluation.run_summary import FILE, RunSummary, read_summary
from l2s_core.storage.records import REPORTS
from l2s_core.storage.runs import list_runs

SHOWN = 6  # settings that are named; the others are counted


@dataclass(frozen=True, kw_only=True)
class LastRun:
    """The last run of a configuration that wrote a report."""

    run_id: str
    started: str
    settings: Mapping[str, Any]
    summary: RunSummary


def last_run(home: Path, name: str) -> LastRun | None:
    """Return the last run whose report is that of the configuration `name`; None where there is none to read."""
    wrote = f"{REPORTS}/{name}"
    record = next((record for record in list_runs(home) if record.wrote == wrote), None)
    if record is None:
        return None
    try:
        summary = read_summary(home / wrote / FILE)
    except UserError:
        return None
    return LastRun(run_id=record.run_id, started=record.started, settings=dotted(record.config), summary=summary)


def changes(last: LastRun, settings: Mapping[str, Any], summary: RunSummary) -> list[str]:
    """Return lines: the settings that changed, and the figures of every method that did."""
    now = dotted(settings)
    differing = [key for key in sorted({*last.settings, *now}) if last.settings.get(key) != now.get(key)]
    lines = [f"{key}: {last.settings.get(key, 'unset')} -> {now.get(key, 'unset')}" for key in differing[:SHOWN]]
    if len(differing) > SHOWN:
        lines.append(f"and {len(differing) - SHOWN} settings more")
    before = last.summary.by_method
    for name, figures in summary.by_method.items():
        if name not in before:
            lines.append(f"{figures.label}: not in the last run")
            continue
        old, new = before[name].summary, figures.summary
        rates = {"relation correct": (old.correct, new.correct), "all objects": (old.all_found, new.all_found)}
        moved = [f"{what} {a.rate:.2f} -> {b.rate:.2f}" for what, (a, b) in rates.items() if a.rate != b.rate]
        if moved:
            lines.append(f"{figures.label}: {', '.join(moved)}")
    lines += [
        f"{figures.label}: no longer in the run" for name, figures in before.items() if name not in summary.by_method
    ]
    return lines or ["nothing: the same settings and the same figures"]
