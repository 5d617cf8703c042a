"""What is kept of a run: a JSON record in the folder of runs, and what of one that an earlier version wrote is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from l2s_core.errors import UserError
from l2s_core.storage.files import read_json

FORMAT: Literal[2] = (
    2  # of a record; raised when its fields, or those of the configuration in it, come to mean something else
)
EARLIER = "made by an earlier version"
REPORTS = "reports"  # folder of reports, in the folder of runs
BENCHMARKS = "benchmarks"  # the same, of runs of `l2s benchmark`


class RunRecord(BaseModel):
    """One run: its settings, its state, the outputs it depends on and the report it wrote.

    Paths are relative to the folder of runs. `verdicts` are the folders of verdicts by method of sampling, plain
    first; they are among the outputs. `stale` are outputs that an earlier run with the same id depended on, and this
    one does not. `good` are those of the last one that finished, until this one has. Times are ISO 8601, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[2]
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

    def changed(self, **values: Any) -> RunRecord:
        """Return the record with other values."""
        return self.model_copy(update=values)


class EarlierRecord(BaseModel):
    """The record of a run of an earlier version; what that run made is not read, only counted and deleted."""

    model_config = ConfigDict(frozen=True)
    run_id: str
    name: str
    outputs: tuple[str, ...] = ()
    wrote: str | None = None


def read_record(path: Path) -> RunRecord | EarlierRecord:
    """Read the record of a run.

    Raises UserError for a file that cannot be read, and for a record of a later version: nothing is known of what it
    depends on, and so nothing in its folder can be called unreferenced.
    """
    stored = read_json(path)
    number = stored.get("format") if isinstance(stored, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise UserError(
            f"{path} was written by a later version (records of format {number}; this one reads {FORMAT}); "
            "update learn-to-steer, or give another --home"
        )
    try:
        return RunRecord.model_validate(stored)
    except ValidationError:
        return _earlier(path.stem, stored if isinstance(stored, dict) else {})


def _earlier(run_id: str, stored: dict[str, Any]) -> EarlierRecord:
    """Return what can be told of a record with other fields, which may hold anything."""
    name = stored.get("name")
    outputs = stored.get("outputs")
    wrote = stored.get("wrote", stored.get("report"))
    is_report = _is_inside(wrote) and Path(str(wrote)).parts[0] in (REPORTS, BENCHMARKS)
    return EarlierRecord(
        run_id=run_id,
        name=name if isinstance(name, str) else run_id,
        outputs=tuple(filter(_is_inside, outputs)) if isinstance(outputs, list) else (),
        wrote=wrote if is_report else None,
    )


def _is_inside(path: Any) -> bool:
    """Whether a path stays inside the folder that it is relative to, and is not that folder."""
    if not isinstance(path, str) or not Path(path).parts:
        return False
    return not Path(path).is_absolute() and ".." not in Path(path).parts
