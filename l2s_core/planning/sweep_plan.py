"""What the points of a sweep share, and what is left to do: known before any of it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from l2s_core.config import INVERTED, MAIN, PLAIN, TRAJECTORIES, RunConfig
from l2s_core.evaluation.run import Run
from l2s_core.planning.cost import sizes_of
from l2s_core.planning.estimate import disk_bytes, scenes_of, work_of
from l2s_core.planning.measured import Rehearsal

# The outputs of every kind of stage by what they are for: a classifier, a method, or the run ("").
OUTPUTS: dict[str, Callable[[Run], dict[str, Path]]] = {
    "scenes": lambda run: {"": run.paths.scenes},
    "invert": lambda run: {"": run.paths.noise} if run.config.inverts else {},
    "capture": lambda run: _present(run.paths.map_folders.get(INVERTED)),
    "trajectories": lambda run: _present(run.paths.map_folders.get(TRAJECTORIES)),
    "train": lambda run: {name: run.paths.classifier(name) for name in run.classifiers},
    "sample plain": lambda run: {PLAIN: run.paths.samples(PLAIN)},
    "sample steered": lambda run: {name: run.paths.samples(name) for name in run.classifiers},
    "sample further methods": lambda run: _methods(run),
}
DISK = {
    "scenes": "scenes",
    "invert": "noise",
    "capture": "maps",
    "trajectories": "trajectories",
}  # other stages leave images


@dataclass(frozen=True, kw_only=True)
class StageLeft:
    """One kind of stage: how many outputs the points need of it, how many different ones that are, how many are there.

    `hours` and `bytes` are of those that are left. Both are None for training, which nothing tells; `hours` also
    without a rehearsal.
    """

    stage: str
    wanted: int
    distinct: int
    there: int
    hours: float | None
    bytes: int | None


def stages_left(points: Sequence[Run], rehearsal: Rehearsal | None) -> list[StageLeft]:
    """Return a row for every kind of stage; `rehearsal` is that of the sweep's configuration, at full size."""
    rows = []
    for stage, outputs_of in OUTPUTS.items():
        wanted = [(address, (run, method)) for run in points for method, address in outputs_of(run).items()]
        owners = dict(wanted)
        left = [owner for address, owner in owners.items() if not _complete(owner[0], stage, address)]
        if wanted:
            hours, size = _cost(left, stage, rehearsal)
            rows.append(
                StageLeft(
                    stage=stage,
                    wanted=len(wanted),
                    distinct=len(owners),
                    there=len(owners) - len(left),
                    hours=hours,
                    bytes=size,
                )
            )
    return rows


def search_left(corners: Sequence[Run], trials: int, rehearsal: Rehearsal | None) -> list[StageLeft]:
    """Return these rows for a search of that many points between `corners`: an upper bound, as if none was run yet.

    What is the same at all corners is made once, the rest for every point at the price of the dearest corner.
    """
    rows = []
    for stage, outputs_of in OUTPUTS.items():
        outputs = [outputs_of(corner) for corner in corners]
        count = max(map(len, outputs))
        if all(one == outputs[0] for one in outputs):
            rows += [
                replace(row, wanted=trials * count) for row in stages_left(corners[:1], rehearsal) if row.stage == stage
            ]
            continue
        costs = [
            _cost([(corner, method) for method in one], stage, rehearsal)
            for corner, one in zip(corners, outputs, strict=True)
        ]
        hours, size = (None if None in values else trials * max(values) for values in zip(*costs, strict=True))
        rows.append(
            StageLeft(stage=stage, wanted=trials * count, distinct=trials * count, there=0, hours=hours, bytes=size)
        )
    return rows


def hours_as_measured(rows: Sequence[StageLeft], images: int, summary: Mapping[str, Any]) -> float:
    """Return the hours of what is left of training and sampling at the speed of a report (its summary.json).

    `images` is their number a method. Every classifier counts as the report's own, and a method as the mean of the
    report's, or as steering where it has none. That is a bound for none of them, but near for most; `hours` of
    StageLeft counts all updates of the schedule for every image.
    """
    main, left = summary["classifiers"][MAIN], {row.stage: row.distinct - row.there for row in rows}
    steered = main["steered"]["seconds"]
    others = [entry["seconds"] for entry in summary.get("methods", {}).values()] or [steered]
    seconds = left["sample plain"] * summary["plain"]["seconds"] + left["sample steered"] * steered
    seconds += left.get("sample further methods", 0) * sum(others) / len(others)
    return (left["train"] * main["result"]["seconds"] + images * seconds) / 3600


def _present(folder: Path | None) -> dict[str, Path]:
    return {} if folder is None else {"": folder}


def _methods(run: Run) -> dict[str, Path]:
    """The images of methods, without those that are a classifier's or plain ones."""
    others = [run.paths.samples(method) for method in (PLAIN, *run.classifiers)]
    return {name: path for name in run.config.methods if (path := run.paths.samples(name)) not in others}


def _complete(run: Run, stage: str, folder: Path) -> bool:
    """Whether every shard of an output is there; it is checked when it is used."""
    size = run.config.shard
    things = len(run.items) if stage.startswith("sample") else scenes_of(run.config)
    wanted = 2 if stage == "train" else -(-things // size)
    return sum(1 for path in folder.glob("[!.]*") if path.is_file()) >= wanted


def _cost(
    outputs: Sequence[tuple[Run, str]], stage: str, rehearsal: Rehearsal | None
) -> tuple[float | None, int | None]:
    """Hours and bytes of outputs, a run's and what each is for."""
    if stage == "train":
        return None, None
    configs = [_alone(run.config, method) if stage.startswith("sample") else run.config for run, method in outputs]
    size = sum(_bytes(config, stage) for config in configs)
    if rehearsal is None:
        return None, size
    prices = asdict(rehearsal.prices)
    works = [work_of(config).get(stage) for config in configs]
    return sum(work.total(**prices) for work in works if work is not None) / 3600, size


def _alone(config: RunConfig, method: str) -> RunConfig:
    """The run with one classifier, and with no further method but `method`."""
    methods = {name: one for name, one in config.methods.items() if name == method}
    return config.model_copy(update={"classifiers": {}, "methods": methods})


def _bytes(config: RunConfig, stage: str) -> int:
    sizes = disk_bytes(config, sizes_of(config))
    if stage in DISK:
        return sizes[DISK[stage]]
    return sizes["images"] // (2 + len(config.methods))  # `images` are of every method
