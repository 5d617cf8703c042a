"""The baselines of a run, made ready: their objectives, and how many images the best is chosen from."""

from __future__ import annotations

from l2s_core.backbones.base import Backbone
from l2s_core.config import CaptureConfig, CentroidBaseline, HandcraftedBaseline, SelectionBaseline
from l2s_core.dataset.collect import map_source
from l2s_core.evaluation.methods.selection import equal_time_n
from l2s_core.steering.objectives import CentroidObjective, Objective, PresenceObjective
from l2s_core.storage.files import read_json
from l2s_core.storage.stages import MAIN, PLAIN, Stages


def handcrafted_objective(
    baseline: HandcraftedBaseline, backbone: Backbone, capture: CaptureConfig, steps: int
) -> Objective:
    """Return a baseline's loss over the maps that the run captures from `backbone` in a schedule of `steps` steps."""
    source, min_loss = map_source(backbone, capture, steps), baseline.steering.min_loss
    if isinstance(baseline, CentroidBaseline):
        return CentroidObjective(source=source, min_loss=min_loss, margin=baseline.margin)
    return PresenceObjective(source=source, min_loss=min_loss, presence=baseline.presence)


def candidates_of(stages: Stages, baseline: SelectionBaseline) -> int:
    """Return n, or without one as many images as take the time that the run's own steering took, by the verdicts of both.

    Raises UserError when these are missing: plain and steered images come first.
    """
    if baseline.n is not None:
        return baseline.n
    return equal_time_n(_seconds(stages, PLAIN), _seconds(stages, MAIN))


def _seconds(stages: Stages, way: str) -> float:
    rows = read_json(stages.verdicts(way) / "verdicts.json")
    return sum(row["seconds"] for row in rows) / len(rows)
