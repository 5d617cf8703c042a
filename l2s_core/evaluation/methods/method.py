"""What a method of sampling is: its settings, what tells its images from others, its cost, and how it samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import MethodConfig, RunConfig
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.judging import Judging
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.samples import SampleShard
from l2s_core.evaluation.work import Work
from l2s_core.storage.run_paths import RunPaths


@dataclass(frozen=True, kw_only=True)
class SampleContext:
    """What a method may use to make images of a run.

    `classifier` loads one by its name, `judging` what judges the run's images, and `seconds` gives the mean time of an
    image of a method that was sampled and judged before. `taken` are the seeds of the whole suite.
    """

    config: RunConfig
    sampler: Sampler[Backbone]
    classifier: Callable[[str], TrainedClassifier]
    judging: Callable[[], Judging]
    seconds: Callable[[str], float]
    taken: tuple[int, ...] = ()


class Method(MethodConfig, ABC):
    """Base of every method: a subclass has its settings as fields, under `methods.NAME` of a run's configuration."""

    NOTE: ClassVar[str]
    """What a report says of it, after its name."""
    UPPER_BOUND: ClassVar[bool] = False
    """Whether it looks at the verdicts; reports leave it out of the Pareto front."""

    @abstractmethod
    def identity(self, paths: RunPaths) -> list[Any] | None:
        """Return what tells its images from plain ones, JSON-able; None where nothing does.

        Methods of the same identity share their images.
        """

    @abstractmethod
    def work(self, config: RunConfig) -> Work:
        """Return what one image takes, at most."""

    @abstractmethod
    def sample(self, context: SampleContext, items: Sequence[EvalItem]) -> SampleShard:
        """Make the images of items; raises UserError where something is missing that it needs."""

    def label(self, name: str, images: Sequence[JudgedImage]) -> str:
        """Return what tables call it, from its name in the run and its judged images."""
        return name


def method_of(config: MethodConfig) -> Method:
    """Return a section of a method as what it is; raises TypeError for one that was not read as one."""
    if not isinstance(config, Method):
        raise TypeError(f"a run's methods are Methods, not {type(config).__name__}")
    return config


def methods_of(config: RunConfig) -> dict[str, Method]:
    """Return every method of a run by name, in the order of `RunConfig.every_method`."""
    return {name: method_of(method) for name, method in config.every_method.items()}
