"""What runs there were in a folder of runs: one JSON record each, and the stage outputs each depends on.

Outputs belong to no run: several may depend on the same one. An output that no record names is unreferenced. Those
that a record of an earlier version names are not read any more, and are unreferenced, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from l2s_core.errors import UserError, did_you_mean
from l2s_core.hashing import digest
from l2s_core.storage.lock import holder
from l2s_core.storage.records import EARLIER, FORMAT, DamagedRecord, EarlierRecord, RunRecord, read_record, write_record
from l2s_core.storage.run_paths import RunPaths
from l2s_core.storage.sealed import STAGES

RECORDS = "runs"
LOGS = "logs"
RUNNING = "running"
FINISHED = "finished"
PRUNED = "pruned"
FAILED = "failed"
STOPPED = "stopped"
KILLED = "killed"
SCHEDULED = "scheduled"


def run_id_of(paths: RunPaths) -> str:
    """Return the id of a run: its name and a digest of its settings and inputs.

    So the same command has the same id.
    """
    inputs = paths.inputs
    settings = paths.config.model_dump(mode="json", exclude={"tolerance"})
    identity = [settings, inputs.backbone, inputs.judge, inputs.size, list(inputs.data), str(paths.given or "")]
    return f"{paths.config.name}-{digest(identity, 8)}"


def outputs_of(paths: RunPaths) -> list[Path]:
    """Return every folder that a run may write outputs into, and that of its given classifier.

    The latter only where a run of this home trained it.
    """
    folders = []
    if paths.given is None:
        noise = [paths.noise] if paths.config.inverts else []
        folders += [paths.catalogue.parent, paths.scenes, *noise, *paths.map_folders.values()]
        folders += [paths.classifier(name) for name in paths.classifiers]
    else:
        folders += _trained_here(paths.home, paths.given)
    for method in paths.methods:
        folders += [paths.samples(method), paths.verdicts(method)]
    return folders


def _trained_here(home: Path, given: Path) -> list[Path]:
    """Return the stage output that a given classifier is, if it is one of this folder of runs."""
    trained = (home / STAGES).resolve()
    folder = given.resolve()
    if not folder.is_relative_to(trained):
        return []
    return [home / STAGES / Path(*folder.relative_to(trained).parts[:2])]


def begin(paths: RunPaths, flow: str) -> RunRecord:
    """Write and return the record of a run that begins now in this process.

    It keeps the figures and the report of the last time. A scheduled run has a record of its own: it makes its outputs
    anew, and those of the user's own run stay.
    """
    run_id = f"{SCHEDULED}-{run_id_of(paths)}" if flow == SCHEDULED else run_id_of(paths)
    records = list_runs(paths.home)
    last = next((record for record in records if record.run_id == run_id), None)
    outputs = tuple(str(path.relative_to(paths.home)) for path in outputs_of(paths))
    before = {*last.outputs, *last.stale} if last else set()
    record = RunRecord(
        format=FORMAT,
        run_id=run_id,
        headline=last.headline if last else None,
        name=paths.config.name,
        flow=flow,
        state=RUNNING,
        started=_now(),
        outputs=outputs,
        stale=tuple(sorted(before - set(outputs))),
        good=_last_good(last),
        config=paths.config.model_dump(mode="json"),
        verdicts={method: str(paths.verdicts(method).relative_to(paths.home)) for method in paths.methods},
        wrote=last.wrote if last and _has_report(last, records) else None,
    )
    _write(paths.home, record)
    return record


def reported(home: Path, record: RunRecord, folder: Path) -> RunRecord:
    """Write and return the record of a run that has written its report into `folder`."""
    record = record.changed(wrote=str(folder.relative_to(home)))
    _write(home, record)
    return record


def end(home: Path, record: RunRecord, state: str, headline: Mapping[str, float] | None = None) -> RunRecord:
    """Write and return how a run ended; when it finished, its stale outputs go, those that no other run depends on."""
    record = record.changed(state=state, ended=_now(), headline=dict(headline) if headline else record.headline)
    if state == FINISHED and not list_damaged(home):  # nothing is known of what those depend on
        stale = record.stale
        record = record.changed(stale=(), good=())
        others = [other for other in list_runs(home) if other.run_id != record.run_id]
        loose = set(unreferenced(home, [*others, record])) if stale else set()
        remove(home, (home / output for output in stale if home / output in loose))
    _write(home, record)
    return record


def list_runs(home: Path) -> list[RunRecord]:
    """Return every record of this version, the newest first.

    One that says it runs, while another run, or none, holds the folder, was `killed`.
    """
    running = holder(home)
    records = [record for record in _records(home) if isinstance(record, RunRecord)]
    seen = [
        record.changed(state=KILLED) if record.state == RUNNING and running != record.run_id else record
        for record in records
    ]
    return sorted(seen, key=lambda record: record.started, reverse=True)


def list_earlier(home: Path) -> list[EarlierRecord]:
    """Return what is left of runs of earlier versions, by their ids."""
    return [record for record in _records(home) if isinstance(record, EarlierRecord)]


def list_damaged(home: Path) -> list[DamagedRecord]:
    """Return the records of this version that cannot be read, by their ids."""
    return [record for record in _records(home) if isinstance(record, DamagedRecord)]


def find_runs(
    records: Iterable[RunRecord], wanted: Sequence[str], earlier: Iterable[EarlierRecord] = ()
) -> list[RunRecord]:
    """Return the records whose id or name is wanted.

    Raises UserError for one that there is not, which says so of a run of an earlier version.
    """
    records = list(records)
    found = []
    old = {word for record in earlier for word in (record.run_id, record.name)}
    for word in wanted:
        matches = [record for record in records if word in (record.run_id, record.name)]
        if not matches and word in old:
            raise UserError(f"run {word!r} was {EARLIER}; run it again with this one ('l2s clean' deletes the old)")
        if not matches:
            names = sorted({name for record in records for name in (record.run_id, record.name)})
            raise UserError(f"no run {word!r};{did_you_mean(word, names)} 'l2s runs' lists them")
        found += [record for record in matches if record not in found]
    return found


def folder_bytes(folder: Path) -> int:
    """Return the size of the files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def unreferenced(home: Path, records: Iterable[RunRecord]) -> list[Path]:
    """Return the stage outputs that no record depends on, and half-written files that a killed process left behind.

    What a record's last good run depended on is not among them.
    """
    named = {home / output for record in records for output in (*record.outputs, *record.good)}
    folders = [path for path in sorted((home / STAGES).glob("*/*")) if path.is_dir()]
    halves = [
        path for folder in folders if folder in named for path in sorted(folder.rglob(".*.tmp*")) if path.is_file()
    ]
    return [folder for folder in folders if folder not in named] + halves


def files_of(home: Path, record: RunRecord, records: Sequence[RunRecord]) -> list[Path]:
    """Return what belongs to a run alone: its record, its logs and its report.

    The report only if no later run of `records` (newest first) wrote it anew.
    """
    return _own_files(home, record.run_id, record.wrote if _has_report(record, records) else None)


def files_of_earlier(home: Path, record: EarlierRecord, records: Sequence[RunRecord]) -> list[Path]:
    """Return what belongs to a run of an earlier version alone; its report only if no run of this version wrote it."""
    anew = any(other.wrote == record.wrote for other in records)
    return _own_files(home, record.run_id, None if anew else record.wrote)


def remove(home: Path, paths: Iterable[Path]) -> None:
    """Delete files and folders of a folder of runs, of a link the link alone; what lies elsewhere stays."""
    for path in paths:
        if not lies_in(home, path):
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def lies_in(home: Path, path: Path) -> bool:
    """Whether a path is inside of a folder of runs, once all links on the way to it are followed."""
    parent = path.parent.resolve()
    return parent.is_relative_to(home.resolve()) and path.name not in ("", "..")


def _records(home: Path) -> list[RunRecord | EarlierRecord | DamagedRecord]:
    return [read_record(path) for path in sorted((home / RECORDS).glob("*.json"))]


def _own_files(home: Path, run_id: str, report: str | None) -> list[Path]:
    """Return those that are there of a run's record, report and logs."""
    own = [home / RECORDS / f"{run_id}.json", *([] if report is None else [home / report])]
    logs = sorted((home / LOGS).glob(f"{run_id}-*.log"))
    return [path for path in (*own, *logs) if path.exists()]


def _has_report(record: RunRecord, records: Sequence[RunRecord]) -> bool:
    """Whether the report that a run wrote is still its own: none of `records` that is later wrote it anew."""
    if record.wrote is None:
        return False
    return next((other for other in records if other.wrote == record.wrote), record).run_id == record.run_id


def _last_good(last: RunRecord | None) -> tuple[str, ...]:
    """Return the outputs of the last run that finished, given the record of the last one."""
    if last is None:
        return ()
    return last.outputs if last.state == FINISHED else last.good


def _write(home: Path, record: RunRecord) -> None:
    write_record(home / RECORDS / f"{record.run_id}.json", record)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
