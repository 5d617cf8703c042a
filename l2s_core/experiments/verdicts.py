"""The verdicts that finished runs left behind, found by RUN or RUN:METHOD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from l2s_core.config import MAIN
from l2s_core.errors import UserError, unknown_name
from l2s_core.evaluation.judged_image import FILE, JudgedImage, read_judged
from l2s_core.registry import PROTOCOLS
from l2s_core.storage.records import EarlierRecord, RunRecord
from l2s_core.storage.runs import FINISHED, find_runs, list_earlier, list_runs


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The images of one method of a run under its label.

    `judge` says who judged them, above which score; `group_names` how their kinds of prompts are called.
    """

    label: str
    images: list[JudgedImage]
    judge: str
    group_names: Mapping[str, str]


def load_judged(home: Path, choices: Sequence[str]) -> list[Judged]:
    """Read the verdicts of choices, each RUN or RUN:METHOD with an id or a name from `l2s runs`.

    Raises UserError for an unknown run or method, for a run that has not finished or has no verdicts, and for fewer
    than two different ones.
    """
    if len(choices) < 2:
        raise UserError("give two runs or more, e.g. 'l2s compare RUN:plain RUN'; 'l2s runs' lists them")
    records = list_runs(home)
    earlier = list_earlier(home)
    judged = {}
    for choice in choices:
        one = _load(home, records, earlier, choice)
        if one.label in judged:
            raise UserError(f"{choice} is given twice (as {one.label}); give different runs or methods")
        judged[one.label] = one
    return list(judged.values())


def _load(home: Path, records: Sequence[RunRecord], earlier: Sequence[EarlierRecord], choice: str) -> Judged:
    word, _, method = choice.partition(":")
    record = _only(find_runs(records, [word], earlier), word)
    method = method or MAIN
    folders = record.verdicts
    if method not in folders:
        raise unknown_name(f"method of {record.run_id}", method, folders)
    if record.state != FINISHED:
        way_out = "let it end, or give its command again, which goes on where it was"
        raise UserError(f"run {record.run_id} has not finished ({record.state}); {way_out}")
    benchmark = record.config["benchmark"]
    return Judged(
        label=record.run_id if method == MAIN else f"{record.run_id}:{method}",
        images=_images(home / folders[method] / FILE, record.run_id, method),
        judge=f"{benchmark['judge']} above {benchmark['min_score']}",
        group_names=_group_names(benchmark["protocol"]),
    )


def _group_names(protocol: str) -> Mapping[str, str]:
    """How a protocol's kinds of prompts are called; by their own names where the package that had it is gone."""
    return PROTOCOLS.load(protocol).GROUP_NAMES if protocol in PROTOCOLS.names() else {}


def _only(records: Sequence[RunRecord], word: str) -> RunRecord:
    if len(records) > 1:
        raise UserError(
            f"{word!r} names {len(records)} runs; give the id of one: {', '.join(record.run_id for record in records)}"
        )
    return records[0]


def _images(path: Path, run_id: str, method: str) -> list[JudgedImage]:
    if not path.is_file():
        raise UserError(
            f"run {run_id} has no verdicts of {method}: missing file {path}; a run of 'l2s train' makes none, "
            "'l2s reproduce' with the same settings does"
        )
    return read_judged(path)
