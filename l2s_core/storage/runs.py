"""What runs there were in a folder of runs: one JSON record each, and the stage outputs each depends on.

Outputs belong to no run: several may depend on the same one. An output that no record names is unreferenced.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from l2s_core.errors import UserError, did_you_mean
from l2s_core.hashing import digest
from l2s_core.storage.files import read_json, write_json
from l2s_core.storage.lock import holder
from l2s_core.storage.stages import MAIN, PLAIN, Stages

RECORDS, STAGES, LOGS = "runs", "stages", "logs"
RUNNING, FINISHED, PRUNED, FAILED, STOPPED, KILLED = "running", "finished", "pruned", "failed", "stopped", "killed"
SCHEDULED = "scheduled"
REPORTING = ("reproduce", SCHEDULED, "benchmark")  # the flows that write a report


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run: its settings, its state, the outputs it depends on and the report it wrote (relative to the folder of runs).

    `verdicts` are the folders of verdicts by method, among the outputs; records from before there was this
    have none (see `verdicts_of`). `stale` are outputs that an earlier run with the same id depended on, and this one does
    not; `good` those of the last one that finished, until this one has.

    Times are ISO 8601, UTC.
    """

    run_id: str
    name: str
    flow: str
    state: str
    started: str
    outputs: tuple[str, ...]
    config: dict[str, Any]
    wrote: str | None = None
    verdicts: dict[str, str] = field(default_factory=dict)
    stale: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    ended: str | None = None
    headline: dict[str, float] | None = None


def run_id_of(stages: Stages) -> str:
    """Return the id of a run: its name and a digest of its settings and inputs, so that the same command has the same id."""
    identity = [
        stages.config.model_dump(mode="json", exclude={"tolerance"}),
        stages.backbone,
        stages.judge,
        stages.side,
        list(stages.data),
        str(stages.given or ""),
    ]
    return f"{stages.config.name}-{digest(identity, 8)}"


def outputs_of(stages: Stages) -> list[Path]:
    """Return every folder that a run of `stages` may write outputs into, and that of its given classifier when a run of this home trained it."""
    folders = []
    if stages.given is None:
        folders += [
            stages.catalogue.parent,
            stages.scenes,
            *([stages.noise] if stages.config.inverts else []),
            *stages.map_folders.values(),
        ]
        folders += [stages.classifier(name) for name in stages.classifiers]
    elif stages.given.resolve().is_relative_to(trained := (stages.home / STAGES).resolve()):
        folders.append(stages.home / STAGES / Path(*stages.given.resolve().relative_to(trained).parts[:2]))
    for method in stages.methods:
        folders += [stages.samples(method), stages.verdicts(method)]
    return folders


def verdicts_of(record: RunRecord) -> dict[str, str]:
    """Return the folders of a run's verdicts by method, plain first.

    An older record does not name them, but lists those of plain, of the run's own classifier and, unless the classifier
    was given, of its further ones in this order.
    """
    if record.verdicts:
        return record.verdicts
    folders = [output for output in record.outputs if output.startswith(f"{STAGES}/verdicts/")]
    return dict(zip((PLAIN, MAIN, *record.config["classifiers"]), folders, strict=False))


def begin(stages: Stages, flow: str) -> RunRecord:
    """Write and return the record of a run that begins now in this process; it keeps the figures and the report of the last time.

    A scheduled run has a record of its own: it makes its outputs anew, and those of the user's own run stay.
    """
    run_id = f"{SCHEDULED}-{run_id_of(stages)}" if flow == SCHEDULED else run_id_of(stages)
    records = list_runs(stages.home)
    last = next((record for record in records if record.run_id == run_id), None)
    outputs = tuple(str(path.relative_to(stages.home)) for path in outputs_of(stages))
    before = {*last.outputs, *last.stale} if last else set()
    record = RunRecord(
        run_id=run_id,
        headline=last and last.headline,
        name=stages.config.name,
        flow=flow,
        state=RUNNING,
        started=_now(),
        outputs=outputs,
        stale=tuple(sorted(before - set(outputs))),
        good=_last_good(last),
        config=stages.config.model_dump(mode="json"),
        verdicts={method: str(stages.verdicts(method).relative_to(stages.home)) for method in stages.methods},
        wrote=last.wrote if last and _has_report(last, records) else None,
    )
    _write(stages.home, record)
    return record


def reported(home: Path, record: RunRecord, folder: Path) -> RunRecord:
    """Write and return the record of a run that has written its report into `folder`."""
    record = replace(record, wrote=str(folder.relative_to(home)))
    _write(home, record)
    return record


def end(home: Path, record: RunRecord, state: str, headline: Mapping[str, float] | None = None) -> RunRecord:
    """Write and return how a run ended; when it finished, its stale outputs go, those that no other run depends on."""
    record = replace(record, state=state, ended=_now(), headline=dict(headline) if headline else record.headline)
    if state == FINISHED:
        stale, record = record.stale, replace(record, stale=(), good=())
        loose = (
            set(unreferenced(home, [*(r for r in list_runs(home) if r.run_id != record.run_id), record]))
            if stale
            else set()
        )
        remove(home / output for output in stale if home / output in loose)
    _write(home, record)
    return record


def list_runs(home: Path) -> list[RunRecord]:
    """Return every record, the newest first; one that says it runs while another run, or none, holds the folder was `killed`."""
    records, running = [], holder(home)
    for path in sorted((home / RECORDS).glob("*.json")):
        stored = read_json(path)
        try:
            fields = _renewed(stored)
            record = RunRecord(**{**fields, **{name: tuple(fields[name]) for name in ("outputs", "stale", "good")}})
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} is no record of a run ({error}); delete it") from None
        records.append(
            replace(record, state=KILLED) if record.state == RUNNING and running != record.run_id else record
        )
    return sorted(records, key=lambda record: record.started, reverse=True)


def find_runs(records: Iterable[RunRecord], wanted: Sequence[str]) -> list[RunRecord]:
    """Return the records whose id or name is wanted; raises UserError for one that there is not."""
    records, found = list(records), []
    for word in wanted:
        matches = [record for record in records if word in (record.run_id, record.name)]
        if not matches:
            names = sorted({name for record in records for name in (record.run_id, record.name)})
            raise UserError(f"no run {word!r};{did_you_mean(word, names)} 'l2s runs' lists them")
        found += [record for record in matches if record not in found]
    return found


def folder_bytes(folder: Path) -> int:
    """Return the size of the files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def unreferenced(home: Path, records: Iterable[RunRecord]) -> list[Path]:
    """Return the stage outputs that no record depends on, nor its last good run did, and half-written files that a killed process left behind."""
    named = {home / output for record in records for output in (*record.outputs, *record.good)}
    folders = [path for path in sorted((home / STAGES).glob("*/*")) if path.is_dir()]
    halves = [
        path for folder in folders if folder in named for path in sorted(folder.rglob(".*.tmp*")) if path.is_file()
    ]
    return [folder for folder in folders if folder not in named] + halves


def files_of(home: Path, record: RunRecord, records: Sequence[RunRecord]) -> list[Path]:
    """Return what belongs to a run alone: its record, its logs and, unless a later one of `records` (newest first) wrote it anew, its report."""
    own = [RECORDS + f"/{record.run_id}.json", *([record.wrote] if _has_report(record, records) else [])]
    logs = (home / LOGS).glob(f"{record.run_id}-*.log")
    return [path for path in (*(home / name for name in own), *sorted(logs)) if path.exists()]


def remove(paths: Iterable[Path]) -> None:
    """Delete files and folders."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _has_report(record: RunRecord, records: Sequence[RunRecord]) -> bool:
    """Whether the report that a run wrote is still its own: none of `records` (newest first) that is later wrote it anew."""
    return (
        record.wrote is not None
        and next((r for r in records if r.wrote == record.wrote), record).run_id == record.run_id
    )


def _renewed(stored: dict[str, Any]) -> dict[str, Any]:
    """What a record holds; an older one names the folder of its report whether it wrote that or not, and no good outputs apart from the stale ones."""
    fields = {"good": stored["stale"], **stored}
    report = fields.pop("report", None)
    return {"wrote": report, **fields} if fields["state"] == FINISHED and fields["flow"] in REPORTING else fields


def _last_good(last: RunRecord | None) -> tuple[str, ...]:
    """The outputs of the last run that finished, given the record of the last one."""
    if last is None:
        return ()
    return last.outputs if last.state == FINISHED else last.good


def _write(home: Path, record: RunRecord) -> None:
    write_json(home / RECORDS / f"{record.run_id}.json", asdict(record))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
