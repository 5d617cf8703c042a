"""What the points of a sweep share, and what is left to do: known before any of it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from l2s_core.config import MAIN
from l2s_core.errors import UserError
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.run_summary import RunSummary
from l2s_core.planning.past_run import Speed
from l2s_core.planning.stage_kinds import SAMPLE_FURTHER, SAMPLE_PLAIN, SAMPLE_STEERED, STAGE_KINDS, TRAIN, StageKind


@dataclass(frozen=True, kw_only=True)
class StageLeft:
    """One kind of stage: how many outputs the points need of it, how many different ones that are, how many are there.

    `hours` and `bytes` are of those that are left; None for what nothing tells: the bytes of a training, and hours
    without a rehearsal or a finished run.
    """

    stage: str
    wanted: int
    distinct: int
    there: int
    hours: float | None
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Output:
    """An output of a run, and what of the run it is for: a classifier, a method, or "" for all."""

    run: Run
    name: str


def stages_left(points: Sequence[Run], speed: Speed | None) -> list[StageLeft]:
    """Return a row for every kind of stage; `speed` is what evaluations of the sweep's configuration take here."""
    rows = []
    for kind in STAGE_KINDS:
        wanted = [(folder, Output(run=run, name=name)) for run in points for name, folder in kind.outputs(run).items()]
        owners = dict(wanted)
        left = [owner for folder, owner in owners.items() if not kind.is_complete(owner.run, folder)]
        if wanted:
            hours, size = _cost(kind, left, speed)
            row = StageLeft(
                stage=kind.name,
                wanted=len(wanted),
                distinct=len(owners),
                there=len(owners) - len(left),
                hours=hours,
                bytes=size,
            )
            rows.append(row)
    return rows


def search_left(corners: Sequence[Run], trials: int, speed: Speed | None) -> list[StageLeft]:
    """Return these rows for a search of that many points between `corners`: an upper bound, as if none was run yet.

    What is the same at all corners is made once, the rest for every point at the price of the dearest corner.
    """
    once = {row.stage: row for row in stages_left(corners[:1], speed)}
    rows = []
    for kind in STAGE_KINDS:
        outputs = [kind.outputs(corner) for corner in corners]
        count = trials * max(map(len, outputs))
        if all(one == outputs[0] for one in outputs):
            rows += [replace(once[kind.name], wanted=count)] if kind.name in once else []
            continue
        costs = [
            _cost(kind, [Output(run=corner, name=name) for name in one], speed)
            for corner, one in zip(corners, outputs, strict=True)
        ]
        hours, size = (None if None in values else trials * max(values) for values in zip(*costs, strict=True))
        rows.append(StageLeft(stage=kind.name, wanted=count, distinct=count, there=0, hours=hours, bytes=size))
    return rows


def hours_as_measured(rows: Sequence[StageLeft], images: int, summary: RunSummary) -> float:
    """Return the hours of what is left of training and sampling at the speed of a report that trained its classifier.

    `images` are those of one method. Every classifier counts as the report's own, and a further method as the mean of
    the report's, or as steering where it has none: a bound for none of them, but near for most, where `hours` counts
    all updates of the schedule for every image. Raises UserError where the report's classifier was a given one.
    """
    main = summary.classifiers[MAIN]
    if main.result is None:
        raise UserError(f"{summary.name} trained no classifier")
    left = {row.stage: row.distinct - row.there for row in rows}
    steered = main.steered.summary.seconds
    others = [figures.summary.seconds for figures in summary.methods.values()] or [steered]
    seconds = left[SAMPLE_PLAIN] * summary.plain.summary.seconds + left[SAMPLE_STEERED] * steered
    seconds += left.get(SAMPLE_FURTHER, 0) * sum(others) / len(others)
    return (left[TRAIN] * main.result.seconds + images * seconds) / 3600


def _cost(kind: StageKind, outputs: Sequence[Output], speed: Speed | None) -> tuple[float | None, int | None]:
    """Return the hours and bytes of outputs; None for what nothing tells."""
    sizes = [kind.bytes(output.run, output.name) for output in outputs]
    works = [kind.work(output.run, output.name) for output in outputs]
    known_sizes = [size for size in sizes if size is not None]
    known_works = [work for work in works if work is not None]
    size = sum(known_sizes) if len(known_sizes) == len(sizes) else None
    if speed is not None and kind.name == TRAIN and speed.training is not None:
        return len(outputs) * speed.training / 3600, size
    if speed is None or len(known_works) < len(works):
        return None, size
    return sum(work.total(speed.prices) for work in known_works) / 3600, size
