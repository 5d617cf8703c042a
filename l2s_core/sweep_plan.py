"""What the points of a sweep share, and what is left to do: known before any of it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2s_core.config import INVERTED, TRAJECTORIES
from l2s_core.estimate import disk_bytes, prices_of, scenes_of, work_of
from l2s_core.stages import MAIN, PLAIN, Stages

ADDRESSES: dict[str, Callable[[Stages], Path | None]] = {
    "scenes": lambda stages: stages.scenes,
    "invert": lambda stages: stages.noise if stages.config.inverts else None,
    "capture": lambda stages: stages.map_folders.get(INVERTED),
    "trajectories": lambda stages: stages.map_folders.get(TRAJECTORIES),
    "train": lambda stages: stages.classifier(MAIN),
    "sample plain": lambda stages: stages.samples(PLAIN),
    "sample steered": lambda stages: stages.samples(MAIN),
}
DISK = {"scenes": "scenes", "invert": "noise", "capture": "maps", "trajectories": "trajectories", "sample plain": "images", "sample steered": "images"}


@dataclass(frozen=True, kw_only=True)
class StageLeft:
    """One kind of stage: how often the points need it, how many different ones that are, how many are there.

    `hours` and `bytes` are of those that are left; None where no rehearsal tells.
    """

    stage: str
    wanted: int
    distinct: int
    there: int
    hours: float | None
    bytes: int | None


def stages_left(points: Sequence[Stages], rehearsal: Mapping[str, Any] | None) -> list[StageLeft]:
    """Return a row for every kind of stage; `rehearsal` is that of the sweep's configuration, at full size."""
    rows = []
    for stage, address_of in ADDRESSES.items():
        wanted = [(address, stages) for stages in points if (address := address_of(stages)) is not None]
        owners = dict(wanted)
        if not wanted:
            continue
        left = [stages for address, stages in owners.items() if not _complete(stages, stage, address)]
        known = rehearsal is not None and stage in DISK
        rows.append(
            StageLeft(
                stage=stage, wanted=len(wanted), distinct=len(owners), there=len(owners) - len(left),
                hours=sum(_hours(stages, stage, rehearsal) for stages in left) if known else None,
                bytes=sum(_bytes(stages, stage, rehearsal) for stages in left) if known else None,
            )
        )  # fmt: skip
    return rows


def hours_as_measured(rows: Sequence[StageLeft], images: int, summary: Mapping[str, Any]) -> float:
    """Return the hours of what is left of training and sampling, `images` a way, at the speed of a report (its summary.json).

    Every classifier counts as the report's own: a bound for none of them, but near for most, where `hours` counts all updates of
    the schedule for every image.
    """
    main, left = summary["classifiers"][MAIN], {row.stage: row.distinct - row.there for row in rows}
    plain, steered = left["sample plain"] * summary["plain"]["seconds"], left["sample steered"] * main["steered"]["seconds"]
    return (left["train"] * main["result"]["seconds"] + images * (plain + steered)) / 3600


def _complete(stages: Stages, stage: str, folder: Path) -> bool:
    """Whether every shard of an output is there; it is checked when it is used."""
    scenes, items, size = scenes_of(stages.config), len(stages.items), stages.config.shard
    wanted = {"train": 2, "sample plain": -(-items // size), "sample steered": -(-items // size)}.get(stage, -(-scenes // size))
    return sum(1 for path in folder.glob("[!.]*") if path.is_file()) >= wanted


def _hours(stages: Stages, stage: str, rehearsal: Mapping[str, Any]) -> float:
    work = work_of(stages.config.model_copy(update={"variants": {}, "baselines": {}})).get(stage)
    return 0.0 if work is None else work.total(**prices_of(rehearsal["measured"])) / 3600


def _bytes(stages: Stages, stage: str, rehearsal: Mapping[str, Any]) -> int:
    sizes = disk_bytes(stages.config.model_copy(update={"variants": {}, "baselines": {}}), **rehearsal["sizes"])[DISK[stage]]
    return sizes // 2 if stage.startswith("sample") else sizes  # `images` are plain and steered ones
