"""How long a run still takes: its counted work, at the pace measured so far.

Work of the denoiser is counted in evaluations without guidance of one image, so that one stage says how fast another
will be. Stages are counted at most: of steering, where images leave the loop early, and of training, which may stop
early, the first finished part corrects that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from l2s_core.backbones.load import backbone_without_weights
from l2s_core.config import RunConfig
from l2s_core.diffusion.condition import UNGUIDED
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.work import Prices
from l2s_core.planning.stage_kinds import SAMPLE_PLAIN, STAGE_KINDS, TRAIN, StageKind

GRADIENT = 3.0  # evaluations that a steering gradient is: the way back costs about twice the way there
BASIS_SECONDS = 2.0  # of work, before its pace says anything
LABELS = {
    "scenes": "prepare scenes",
    "invert": "invert scenes",
    "capture": "capture attention",
    "trajectories": "sample trajectories",
    TRAIN: "train classifiers",
}


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """A stage of a run. Stages of one `kind` have one pace.

    `left` is the work that was not done when the run began, and `size` the work of one scene, image or classifier, both
    in `evaluations` of the denoiser or in units of the stage's own. A stage without counted work has a `left` of 0.
    """

    label: str
    kind: str
    left: float = 0.0
    size: float = 1.0
    evaluations: bool = False


REPORT = PlannedStage(label="write report", kind="report")


@dataclass(frozen=True, kw_only=True)
class TimeLeft:
    """Seconds that are left; `all_counted` is False where there is work whose pace nothing tells yet."""

    seconds: float
    all_counted: bool


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a stage: the seconds that so many units of its work took."""

    stage: PlannedStage
    seconds: float
    units: float


class Pace:
    """The work that was measured, by the label of its stage."""

    def __init__(self) -> None:
        self._measured: dict[str, Measured] = {}

    def measure(self, stage: PlannedStage, seconds: float, units: float) -> None:
        """Note what all that was done of a stage took."""
        self._measured[stage.label] = Measured(stage=stage, seconds=seconds, units=units)

    def of(self, stage: PlannedStage) -> float | None:
        """Return the seconds of a unit of a stage: of its kind, or where that is not known of other evaluations.

        None where nothing tells.
        """
        own = [one for one in self._measured.values() if one.stage.kind == stage.kind]
        alike = [one for one in self._measured.values() if one.stage.evaluations and stage.evaluations]
        return next((price for basis in (own, alike) if (price := _price(basis)) is not None), None)


def _price(basis: Sequence[Measured]) -> float | None:
    seconds = sum(one.seconds for one in basis)
    units = sum(one.units for one in basis)
    return seconds / units if seconds >= BASIS_SECONDS and units > 0 else None


def time_left(stages: Sequence[PlannedStage], done: Mapping[str, float], pace: Pace) -> TimeLeft | None:
    """Return the time left of stages; None before there is any basis for it, and where no counted work is left.

    `done` is how much of each stage's `left` is done, by label.
    """
    units = {stage: max(0.0, stage.left - done.get(stage.label, 0.0)) for stage in stages}
    prices = {stage: pace.of(stage) for stage, count in units.items() if count > 0}
    known = {stage: price for stage, price in prices.items() if price is not None}
    if not known:
        return None
    seconds = sum(units[stage] * price for stage, price in known.items())
    return TimeLeft(seconds=seconds, all_counted=len(known) == len(prices))


def dataset_stages(run: Run) -> list[PlannedStage]:
    """Return the stages of a run up to its classifiers, with what is left of each."""
    stages = []
    prices = _in_evaluations(run.config)
    for kind in STAGE_KINDS:
        outputs = kind.outputs(run)
        if kind.name in LABELS and outputs:
            stages.append(_planned(run, kind, outputs, LABELS[kind.name], kind.name, prices))
    return stages


def image_stages(run: Run) -> list[PlannedStage]:
    """Return the stages that make and judge the images of a run, one a method, with what is left of each."""
    (kind,) = (kind for kind in STAGE_KINDS if kind.name == SAMPLE_PLAIN)
    prices = _in_evaluations(run.config)
    return [
        _planned(run, kind, {name: run.paths.samples(name)}, images_label(name), f"images {method.kind}", prices)
        for name, method in run.methods.items()
    ]


def images_label(method: str) -> str:
    """Return what the stage of a method's images is called."""
    return f"sample images {method}"


def _planned(
    run: Run, kind: StageKind, outputs: Mapping[str, Path], label: str, pace: str, prices: Prices
) -> PlannedStage:
    work = {name: kind.work(run, name) for name in outputs}
    evaluations = {name: one.total(prices) for name, one in work.items() if one is not None}
    counted = any(evaluations.values())
    units = evaluations if counted else {name: float(kind.own_units(run, name)) for name in outputs}
    return PlannedStage(
        label=label,
        kind=pace,
        left=sum(units[name] * kind.missing(run, folder) for name, folder in outputs.items()),
        size=sum(units.values()) / (len(outputs) * kind.pieces(run)),
        evaluations=counted,
    )


def _in_evaluations(config: RunConfig) -> Prices:
    """Return what work comes to in evaluations: with guidance by a second prompt, one is two."""
    twice = config.backbone.guidance > UNGUIDED and backbone_without_weights(config.backbone).classifier_free
    return Prices(forward=1.0, guided=2.0 if twice else 1.0, gradient=GRADIENT)
