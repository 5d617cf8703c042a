"""What is kept of a run: a JSON record in the folder of runs, and what of one that an earlier version wrote is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from l2s_core.errors import UserError
from l2s_core.storage.files import read_json
from l2s_core.storage.sealed import CHECKSUM, PLACE
from l2s_core.storage.versioned import read_versioned, write_versioned

FORMAT: Literal[3] = (
    3  # of a record; raised when its fields, or those of the configuration in it, come to mean something else
)
EARLIER = "made by an earlier version"
REPORTS = "reports"  # folder of reports, in the folder of runs
BENCHMARKS = "benchmarks"  # the same, of runs of `l2s benchmark`
LONGEST_PATH = 255  # bytes of a path in a record; no file's name is longer, and asking for one that is fails


class RunRecord(BaseModel):
    """One run: its settings, its state, the outputs it depends on and the report it wrote.

    Paths are relative to the folder of runs. `verdicts` are the folders of verdicts by method of sampling, plain
    first; they are among the outputs. `stale` are outputs that an earlier run with the same id depended on, and this
    one does not. `good` are those of the last one that finished, until this one has. Times are ISO 8601, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[3]
    run_id: str
    name: str
    flow: str
    state: str
    started: str
    outputs: tuple[str, ...]
    config: dict[str, Any]
    verdicts: dict[str, str]
    wrote: str | None = None
    stale: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    ended: str | None = None
    headline: dict[str, float] | None = None

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        paths = [*self.outputs, *self.stale, *self.good, *self.verdicts.values()]
        if not all(map(_is_inside, paths)) or not (self.wrote is None or _is_report(self.wrote)):
            raise ValueError("a path leads out of the folder of runs")
        return self

    def changed(self, **values: Any) -> RunRecord:
        """Return the record with other values."""
        return self.model_copy(update=values)


class DamagedRecord(BaseModel):
    """The record of a run of this version that cannot be read; nothing is known of what the run depends on."""

    model_config = ConfigDict(frozen=True)
    run_id: str
    reason: str


class EarlierRecord(BaseModel):
    """The record of a run of an earlier version; what that run made is not read, only counted and deleted."""

    model_config = ConfigDict(frozen=True)
    run_id: str
    name: str
    outputs: tuple[str, ...] = ()
    wrote: str | None = None


def write_record(path: Path, record: RunRecord) -> None:
    """Write the record of a run atomically, bound to its place."""
    write_versioned(path, FORMAT, record.model_dump(mode="json", exclude={"format"}))


def read_record(path: Path) -> RunRecord | EarlierRecord | DamagedRecord:
    """Read the record of a run.

    Raises UserError for a record of a later version: nothing is known of what it depends on, and so nothing in its
    folder can be called unreferenced.
    """
    try:
        stored = read_json(path)
    except UserError as error:
        return DamagedRecord(run_id=path.stem, reason=str(error))
    number = stored.get("format") if isinstance(stored, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise UserError(
            f"{path} was written by a later version (records of format {number}; this one reads {FORMAT}); "
            "update learn-to-steer, or give another --home"
        )
    if number != FORMAT:
        return _earlier(path.stem, stored if isinstance(stored, dict) else {})
    try:
        return read_versioned(path, FORMAT, _record, what="record of a run", remedy="give the run's command again")
    except UserError as error:
        return DamagedRecord(run_id=path.stem, reason=str(error))


def _record(stored: Mapping[str, Any]) -> RunRecord:
    return RunRecord.model_validate({name: value for name, value in stored.items() if name not in (PLACE, CHECKSUM)})


def _earlier(run_id: str, stored: dict[str, Any]) -> EarlierRecord:
    """Return what can be told of a record with other fields, which may hold anything."""
    name = stored.get("name")
    outputs = stored.get("outputs")
    wrote = stored.get("wrote", stored.get("report"))
    return EarlierRecord(
        run_id=run_id,
        name=name if isinstance(name, str) else run_id,
        outputs=tuple(filter(_is_inside, outputs)) if isinstance(outputs, list) else (),
        wrote=wrote if _is_report(wrote) else None,
    )


def _is_report(path: Any) -> bool:
    """Whether a path, relative to the folder of runs, is that of a report."""
    return _is_inside(path) and Path(path).parts[0] in (REPORTS, BENCHMARKS)


def _is_inside(path: Any) -> bool:
    """Whether a path stays inside the folder that it is relative to, is not that folder, and can be a file's."""
    if not isinstance(path, str) or "\0" in path or not Path(path).parts:
        return False
    return len(path.encode()) <= LONGEST_PATH and not Path(path).is_absolute() and ".." not in Path(path).parts
