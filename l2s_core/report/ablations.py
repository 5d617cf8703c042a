"""Ablations as tables: every point beside the reference, paired on the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from l2s_core.config import RunConfig
from l2s_core.config.relative import value_at
from l2s_core.errors import UserError
from l2s_core.evaluation.judged_image import FILE, JudgedImage, read_judged
from l2s_core.evaluation.statistics.aggregate import MethodSummary
from l2s_core.evaluation.statistics.significance import ALPHA, PairedDifference, compare_pairs, match
from l2s_core.experiments.ablations import SEED, Ablation
from l2s_core.experiments.sweeps import PointResult, PointState, settings_text
from l2s_core.report.ablation_table import FORMAT, AblationRow, Ablations, AblationTable, AgainstReference, PointFigures
from l2s_core.report.page import render_page
from l2s_core.storage.files import atomic_path, write_text
from l2s_core.storage.versioned import read_versioned, write_versioned

FOLDER = "ablations"
RESULTS = "ablations.json"
PAGE = "report.html"
TEMPLATE = "ablations_page.html"
OUTCOME = "correct"
SHARED_SECTIONS = (
    "backbone",
    "data",
    "inversion",
    "capture",
    "trajectories",
    "classifier",
    "steering",
)  # what a run and its ablations have in common


def ablation_table(ablation: Ablation, results: Sequence[PointResult], home: Path) -> AblationTable:
    """Return an ablation's table.

    It comes from what became of the ablation's points, the reference's first, and from their verdicts in `home`. The
    runs of a point, one for each seed of the classifier, are one row.
    """
    count = ablation.config.runs_a_point
    groups = [results[first : first + count] for first in range(0, len(results), count)]
    verdicts = [_verdicts(group, home) for group in groups]
    tree = ablation.run.model_dump(mode="json")
    ignored = {SEED} if ablation.config.seeds else set()
    varied = {key for result in results for key in result.varied} - ignored
    ordered = [key for key in dict.fromkeys(key for result in results for key in result.varied) if key in varied]
    keys = [key for key in ordered if _differs(tree, key, results)]
    settings = [{key: group[0].varied.get(key, _reference(tree, key)) for key in keys} for group in groups]
    differences = _differences(verdicts)
    rows = (
        AblationRow(
            label=_label(group[0], ablation),
            reference=number == 0,
            settings=settings[number],
            text=_text(settings[number], settings[0], number),
            state=_unfinished(group).state,
            reason=_unfinished(group).reason,
            figures=_figures(group, verdicts[number]),
            difference=differences[number],
        )
        for number, group in enumerate(groups)
    )
    return AblationTable(
        name=ablation.config.name,
        title=ablation.config.title,
        question=ablation.config.question,
        left_out=ablation.left_out,
        rows=tuple(rows),
    )


def write_ablation(home: Path, ablation: Ablation, identity: str, table: AblationTable) -> list[Path]:
    """Put a table beside those of the same reference.

    Write its CSV, and all of them as JSON and as a page; return these files.

    `identity` tells references apart: tables that were held against another one go, and those of another version.
    """
    folder = folder_of(home, ablation.run.name)
    tables = {one.name: one for one in _tables_of(folder, identity)} | {table.name: table}
    ablations = Ablations(
        name=ablation.run.name,
        identity=identity,
        config=ablation.run.model_dump(mode="json"),
        tables=tuple(tables[name] for name in sorted(tables)),
    )
    paths = [folder / PAGE, folder / RESULTS, folder / f"{table.name}.csv"]
    for stale in set(folder.glob("*.csv")) - {folder / f"{name}.csv" for name in tables}:
        stale.unlink()
    with atomic_path(paths[2]) as temporary:
        pd.DataFrame([_flat(row.to_json()) for row in table.rows]).to_csv(temporary, index=False)
    write_versioned(paths[1], FORMAT, ablations.to_json())
    write_text(paths[0], render_page({"ablations": ablations}, {}, TEMPLATE))
    return paths


def load_ablations(home: Path, config: RunConfig) -> Ablations | None:
    """Return the ablations of a run's configuration in a home, or None where there are none; what ablations.html shows.

    A configuration of the same name may have been ablated with other settings: `other_settings` names them. Raises
    UserError, one line, for those of another version.
    """
    stored = _stored(folder_of(home, config.name))
    if stored is None:
        return None
    own = config.model_dump(mode="json")
    other = tuple(name for name in SHARED_SECTIONS if stored.config.get(name) != own.get(name))
    return replace(stored, other_settings=other)


def folder_of(home: Path, name: str) -> Path:
    """Where the ablations of a run's configuration lie."""
    return Path(home) / FOLDER / name


def _tables_of(folder: Path, identity: str) -> tuple[AblationTable, ...]:
    """The tables that are there and were held against this reference."""
    try:
        stored = _stored(folder)
    except UserError:
        return ()
    return stored.tables if stored is not None and stored.identity == identity else ()


def _stored(folder: Path) -> Ablations | None:
    path = folder / RESULTS
    if not path.is_file():
        return None
    return read_versioned(
        path, FORMAT, Ablations.from_json, what="ablations", remedy="delete it, or run 'l2s ablate' again"
    )


def _label(first: PointResult, ablation: Ablation) -> str:
    seeds = ablation.config.seeds
    return first.label.removesuffix(f", seed {seeds[0]}") if seeds else first.label


def _verdicts(group: Sequence[PointResult], home: Path) -> list[list[JudgedImage]] | None:
    """The judged images of every run of a point; None where one has none."""
    if not all(result.verdicts for result in group):
        return None
    return [read_judged(home / result.verdicts / FILE) for result in group]


def _unfinished(group: Sequence[PointResult]) -> PointResult:
    """The first run of a point that did not finish, or else its first."""
    return next((result for result in group if result.state is not PointState.FINISHED), group[0])


def _reference(tree: Mapping[str, Any], key: str) -> Any:
    """The reference's value of a setting; a key that no run has, of a point that failed, has none."""
    try:
        return value_at(tree, key)
    except UserError:
        return None


def _differs(tree: Mapping[str, Any], key: str, results: Sequence[PointResult]) -> bool:
    return any(result.varied.get(key, _reference(tree, key)) != _reference(tree, key) for result in results)


def _text(settings: Mapping[str, Any], reference: Mapping[str, Any], number: int) -> str:
    """A point's settings where they differ from the reference's; all of the reference itself."""
    return settings_text({key: value for key, value in settings.items() if number == 0 or value != reference[key]})


def _figures(group: Sequence[PointResult], runs: Sequence[Sequence[JudgedImage]] | None) -> PointFigures | None:
    if runs is None:
        return None
    summary = MethodSummary.of([image for images in runs for image in images])
    seeds = len(runs) > 1
    return PointFigures(
        accuracy={kind: _mean(group, f"test_accuracy_{kind}_prompts") for kind in ("true", "wrong")},
        correct=summary.correct,
        all_found=summary.all_found,
        gradients=summary.gradients,
        seconds=summary.seconds,
        kid_change=_mean(group, "kid_change"),
        kid_error=_mean(group, "kid_change_error"),
        correct_by_seed=tuple(MethodSummary.of(images).correct.rate for images in runs) if seeds else (),
    )


def _mean(group: Sequence[PointResult], metric: str) -> float | None:
    """The mean of a metric over the runs of a point; None where one does not have it."""
    values = [result.metrics.get(metric, float("nan")) for result in group]
    return None if any(map(isnan, values)) else fmean(values)


def _differences(verdicts: Sequence[list[list[JudgedImage]] | None]) -> list[AgainstReference | None]:
    """A difference a point; none for the reference, for points without verdicts, or where the reference has none.

    The run of a seed is held against the reference's of the same seed.
    """
    reference, *others = verdicts
    judged = {number: runs for number, runs in enumerate(others, start=1) if runs} if reference else {}
    pairs = {
        number: [pair for mine, theirs in zip(reference or (), runs, strict=True) for pair in match(mine, theirs)]
        for number, runs in judged.items()
    }
    found = compare_pairs(pairs, OUTCOME)
    return [_against(*found[number]) if number in found else None for number in range(len(verdicts))]


def _against(difference: PairedDifference, p: float) -> AgainstReference:
    return AgainstReference(
        rate=difference.difference,
        low=difference.low,
        high=difference.high,
        only_reference=difference.only_first,
        only_point=difference.only_second,
        p=p,
        marked=p < ALPHA,
    )


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the CSV: nested values under joined names."""
    flat: dict[str, Any] = {"label": row["label"], **row["settings"]}
    for key, value in row.items():
        if key not in ("label", "settings", "text"):
            flat |= (
                {f"{key}_{inner}": entry for inner, entry in value.items()} if isinstance(value, dict) else {key: value}
            )
    return flat
