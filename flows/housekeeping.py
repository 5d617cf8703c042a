"""What `l2s runs` and `l2s clean` print and do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from flows.summary import print_table
from l2s_core.errors import UserError
from l2s_core.storage.lock import exclusive
from l2s_core.storage.runs import files_of, find_runs, folder_bytes, list_runs, remove, unreferenced

MB = 1e6


def print_runs(home: Path) -> None:
    """Print a line a run, the newest first, and how much can go."""
    records = list_runs(home)
    if not records:
        click.echo(f"no runs in {home}; 'l2s reproduce' makes one")
        return
    sizes = {output: folder_bytes(home / output) for record in records for output in record.outputs}
    rows = []
    for record in records:
        figures = ", ".join(f"{name} {value:.2f}" for name, value in (record.headline or {}).items())
        size = sum(sizes[output] for output in set(record.outputs))
        model = record.config["backbone"]["model"]
        rows.append((record.run_id, record.flow, record.state, record.started, model, f"{size / MB:.0f} MB", figures))
    print_table(("run", "flow", "state", "started (UTC)", "model", "size", "figures"), rows)
    loose = sum(_bytes(path) for path in unreferenced(home, records))
    click.echo(
        f"\n{sum(sizes.values()) / MB:.0f} MB in all, outputs that runs share counted once; "
        f"{loose / MB:.0f} MB belong to no run ('l2s clean')"
    )


def clean_home(home: Path, names: Sequence[str], *, delete: bool) -> None:
    """Say what would go, or delete it: what belongs to the named runs alone, and what no other run depends on."""

    def busy() -> None:
        raise UserError(f"a run is using {home}; wait for it to end, or stop it")

    with exclusive(home, busy):
        records = list_runs(home)
        forgotten = find_runs(records, names)
        kept = [record for record in records if record not in forgotten]
        paths = [path for record in forgotten for path in files_of(home, record, records)] + unreferenced(home, kept)
        for path in paths:
            click.echo(f"{_bytes(path) / MB:8.1f} MB  {path}")
        total = sum(map(_bytes, paths)) / MB
        if not paths:
            click.echo("nothing to delete")
        elif delete:
            remove(paths)
            click.echo(f"deleted {total:.0f} MB")
        else:
            click.echo(f"{total:.0f} MB would go; --yes deletes")


def _bytes(path: Path) -> int:
    return folder_bytes(path) if path.is_dir() else path.stat().st_size
