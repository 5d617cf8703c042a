"""What `l2s runs` and `l2s clean` print and do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import click

from flows.tables import print_table
from l2s_core.config.dotted import dotted
from l2s_core.errors import UserError
from l2s_core.storage.lock import exclusive
from l2s_core.storage.records import EARLIER, EarlierRecord, RunRecord
from l2s_core.storage.runs import (
    LOGS,
    files_of,
    files_of_earlier,
    find_runs,
    folder_bytes,
    lies_in,
    list_damaged,
    list_earlier,
    list_runs,
    remove,
    unreferenced,
)

MB = 1e6
COLUMNS = ("run", "flow", "state", "started (UTC)", "model", "size", "figures", "differs in")


def print_runs(home: Path, *, state: str | None = None, config: str | None = None) -> None:
    """Print a line a run, the newest first, those of earlier versions last, and how much can go.

    `state` and `config` choose: runs that ended so, and those of that name.
    """
    records = list_runs(home)
    earlier = list_earlier(home)
    damaged = list_damaged(home)
    if not records and not earlier and not damaged:
        click.echo(f"no runs in {home}; 'l2s reproduce' makes one")
        return
    outputs = {output for record in records for output in record.outputs}
    old_outputs = {output for record in earlier for output in record.outputs}
    sizes = {output: folder_bytes(home / output) for output in outputs | old_outputs}
    differences = differences_of_namesakes(records)
    rows = [
        (*_row(record, sizes), differences[record.run_id]) for record in records if _is_wanted(record, state, config)
    ]
    if state is None and config is None:
        rows += [(*_earlier_row(record, sizes), "") for record in earlier]
        rows += [(record.run_id, "", "damaged record", "", "", "", "", "") for record in damaged]
    print_table(COLUMNS, rows, width=120)
    for record in damaged:
        click.echo(record.reason)
    own = sum(sizes[output] for output in outputs)
    loose = sum(_bytes(path) for path in _loose(home, records, records, earlier))
    click.echo(
        f"\n{own / MB:.0f} MB in all, outputs that runs share counted once; "
        f"{loose / MB:.0f} MB belong to no run of this version ('l2s clean')"
    )


def print_run(home: Path, name: str) -> None:
    """Print what is known of a run: when, how long, figures, the files of each stage so far, its report and log."""
    for record in find_runs(list_runs(home), [name], list_earlier(home)):
        click.echo(f"{record.run_id}: {record.flow}, {record.state}{_duration(record)}")
        click.echo(f"started {record.started}, model {record.config['backbone']['model']}")
        for method, value in (record.headline or {}).items():
            click.echo(f"  {method}: {value:.3f} right")
        rows = [
            (output, f"{len(files)}", f"{sum(map(_bytes, files)) / MB:.1f} MB")
            for output, files in _files(home, record)
        ]
        print_table(("output", "files", "size"), rows)
        if record.wrote is not None:
            click.echo(home / record.wrote)
        for log in sorted((home / LOGS).glob(f"{record.run_id}-*.log"))[-1:]:
            click.echo(log)


def print_runs_json(home: Path, names: Sequence[str], *, state: str | None = None, config: str | None = None) -> None:
    """Print the records as JSON: a list, the newest first."""
    records = list_runs(home)
    chosen = find_runs(records, names, list_earlier(home)) if names else records
    kept = [record.model_dump(mode="json") for record in chosen if _is_wanted(record, state, config)]
    click.echo(json.dumps(kept, indent=2))


def differences_of_namesakes(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return, by id, the settings in which a run differs from others of its name: "classifier.width=16"."""
    flat = {record.run_id: dotted(record.config) for record in records}
    told = {}
    for record in records:
        namesakes = [flat[other.run_id] for other in records if other.name == record.name]
        own = flat[record.run_id]
        keys = [key for key in own if any(other.get(key) != own[key] for other in namesakes)]
        told[record.run_id] = ", ".join(f"{key}={own[key]}" for key in keys if _origin(key) not in keys)
    return told


def _origin(key: str) -> str | None:
    """Return the setting of the run that one of a further classifier or method starts from, None for any other."""
    section, _, rest = key.partition(".")
    inherited = rest.partition(".")[2]
    return {"classifiers": f"classifier.{inherited}", "methods": inherited}.get(section)


def _is_wanted(record: RunRecord, state: str | None, config: str | None) -> bool:
    return state in (None, record.state) and config in (None, record.name)


def _duration(record: RunRecord) -> str:
    if record.ended is None:
        return ""
    seconds = (datetime.fromisoformat(record.ended) - datetime.fromisoformat(record.started)).total_seconds()
    return f" after {timedelta(seconds=round(seconds))}"


def _files(home: Path, record: RunRecord) -> Iterator[tuple[str, list[Path]]]:
    """Yield each output of a run with its finished files."""
    for output in record.outputs:
        files = [path for path in (home / output).rglob("*") if path.is_file() and not path.name.startswith(".")]
        yield output, files


def clean_home(home: Path, names: Sequence[str], *, delete: bool) -> None:
    """Say what would go, or delete it: what belongs to the named runs alone, and what no other run depends on.

    Whatever runs of earlier versions left goes, named or not.
    """

    def busy() -> None:
        raise UserError(f"a run is using {home}; wait for it to end, or stop it")

    with exclusive(home, busy):
        for damaged in list_damaged(home):
            raise UserError(f"what run {damaged.run_id} depends on is not known: {damaged.reason}, or delete the file")
        records = list_runs(home)
        earlier = list_earlier(home)
        old = {name for record in earlier for name in (record.run_id, record.name)}
        known = {name for record in records for name in (record.run_id, record.name)}
        forgotten = find_runs(records, [name for name in names if name in known or name not in old])
        kept = [record for record in records if record not in forgotten]
        paths = [path for record in forgotten for path in files_of(home, record, records)]
        paths += _loose(home, kept, records, earlier)
        for path in (path for path in paths if not lies_in(home, path)):
            click.echo(f"left alone: {path} leads out of {home}")
        paths = [path for path in paths if lies_in(home, path)]
        for path in paths:
            click.echo(f"{_bytes(path) / MB:8.1f} MB  {path}")
        total = sum(map(_bytes, paths)) / MB
        if not paths:
            click.echo("nothing to delete")
        elif delete:
            remove(home, paths)
            click.echo(f"deleted {total:.0f} MB")
        else:
            click.echo(f"{total:.0f} MB would go; --yes deletes")


def _loose(
    home: Path, kept: Sequence[RunRecord], records: Sequence[RunRecord], earlier: Sequence[EarlierRecord]
) -> list[Path]:
    """Return what runs of earlier versions left, and the outputs that none of the `kept` runs depends on."""
    left = [path for record in earlier for path in files_of_earlier(home, record, records)]
    return list(dict.fromkeys(left)) + unreferenced(home, kept)


def _row(record: RunRecord, sizes: dict[str, int]) -> tuple[str, ...]:
    figures = ", ".join(f"{name} {value:.2f}" for name, value in (record.headline or {}).items())
    model = record.config["backbone"]["model"]
    size = sum(sizes[output] for output in set(record.outputs))
    started = record.started[:16].replace("T", " ")
    return record.run_id, record.flow, record.state, started, Path(model).name, f"{size / MB:.0f} MB", figures


def _earlier_row(record: EarlierRecord, sizes: dict[str, int]) -> tuple[str, ...]:
    size = sum(sizes[output] for output in set(record.outputs))
    return record.run_id, "", EARLIER, "", "", f"{size / MB:.0f} MB", ""


def _bytes(path: Path) -> int:
    return folder_bytes(path) if path.is_dir() else path.stat().st_size
