"""The further methods of a run, made ready: their objectives, and how many images the best is chosen from."""

from __future__ import annotations

from l2s_core.backbones.base import Backbone
from l2s_core.config import MAIN, PLAIN, CaptureConfig, CentroidMethod, HandcraftedMethod, SelectionMethod
from l2s_core.dataset.collect import map_source
from l2s_core.evaluation.judged_image import FILE, read_judged
from l2s_core.evaluation.methods.selection import equal_time_n
from l2s_core.evaluation.run import Run
from l2s_core.steering.objectives import CentroidObjective, Objective, PresenceObjective


def handcrafted_objective(
    method: HandcraftedMethod, backbone: Backbone, capture: CaptureConfig, steps: int
) -> Objective:
    """Return a method's loss over the maps that the run captures from `backbone` in a schedule of `steps` steps."""
    source, min_loss = map_source(backbone, capture, steps), method.steering.min_loss
    if isinstance(method, CentroidMethod):
        return CentroidObjective(source=source, min_loss=min_loss, margin=method.margin)
    return PresenceObjective(source=source, min_loss=min_loss, presence=method.presence)


def candidates_of(run: Run, method: SelectionMethod) -> int:
    """Return n, or without one as many images as take the time that the run's own steering took, by the verdicts of both.

    Raises UserError when these are missing: plain and steered images come first.
    """
    if method.n is not None:
        return method.n
    return equal_time_n(_seconds(run, PLAIN), _seconds(run, MAIN))


def _seconds(run: Run, method: str) -> float:
    images = read_judged(run.paths.verdicts(method) / FILE)
    return sum(image.seconds for image in images) / len(images)
