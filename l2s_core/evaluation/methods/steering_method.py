"""What methods that steer have in common: steering settings, and an objective."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import model_validator

from l2s_core.config import ReadSection, RunConfig, SteeringConfig
from l2s_core.dataset.collect import map_source
from l2s_core.dataset.schema import MapSource
from l2s_core.evaluation.methods.method import Method, SampleContext
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.samples import SampleShard, sample_items
from l2s_core.evaluation.work import Work
from l2s_core.steering.objectives import Objective
from l2s_core.steering.steering import Steering
from l2s_core.storage.run_paths import RunPaths


class SteeringMethod(Method):
    """Base of methods that steer: a subclass says by which objective.

    `steering` starts from the run's own settings, without those NOT_INHERITED, or from a file of configs/steering that
    it names, or that BASE names.
    """

    BASE: ClassVar[str | None] = None
    NOT_INHERITED: ClassVar[frozenset[str]] = frozenset()
    steering: SteeringConfig

    @abstractmethod
    def objective(self, context: SampleContext) -> Objective:
        """Return what the steering drives at."""

    def sample(self, context: SampleContext, items: Sequence[EvalItem]) -> SampleShard:
        return sample_items(
            context.sampler, items, partial(Steering, objective=self.objective(context), config=self.steering)
        )

    def work(self, config: RunConfig) -> Work:
        return Work(guided=config.backbone.steps, gradients=self.steering.most_updates)

    def require_fit(self, run: RunConfig, place: str) -> None:
        self.steering.require_fit(f"{place}.steering", steps=run.backbone.steps, last=run.capture.steps[-1])

    @classmethod
    def spelt_out(cls, values: dict[str, Any], steering: dict[str, Any], read: ReadSection) -> dict[str, Any]:
        own = values.get("steering", {})
        if cls.BASE is not None and isinstance(own, dict):
            own = {"base": cls.BASE, **own}
        named = isinstance(own, str) or (isinstance(own, dict) and "base" in own)
        start = {} if named else {key: value for key, value in steering.items() if key not in cls.NOT_INHERITED}
        return {**values, "steering": {**start, **read(own, "steering")}}


class AttentionMethod(SteeringMethod):
    """Base of methods that steer by a loss on the attention maps, without a classifier.

    `confidence` is a classifier's and has no meaning here.
    """

    NOT_INHERITED = frozenset({"confidence"})

    @model_validator(mode="after")
    def _without_classifier(self) -> AttentionMethod:
        if self.steering.confidence is not None:
            raise ValueError(
                "steering.confidence is a classifier's; leave it out (null takes it out of a file's settings)"
            )
        return self

    def identity(self, paths: RunPaths) -> list[Any]:
        capture = paths.config.capture.model_dump(mode="json", exclude={"steps", "context"})
        return [self.model_dump(mode="json"), capture]

    def maps(self, context: SampleContext) -> MapSource:
        """Return the identity of the maps that the run captures, those of a pair alone."""
        config = context.config
        alone = config.capture.model_copy(update={"context": False})
        return map_source(context.sampler.backbone, alone, config.backbone.steps)
