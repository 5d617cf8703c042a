"""The best of several plain images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from l2s_core.config import MAIN, PLAIN, RunConfig
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.methods.method import Method, SampleContext
from l2s_core.evaluation.methods.selection import (
    Chooser,
    ClassifierChooser,
    JudgeChooser,
    equal_time_n,
    select_items,
)
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.samples import SampleShard
from l2s_core.evaluation.work import Work
from l2s_core.storage.run_paths import RunPaths


class Selection(Method):
    """Base of methods that keep the best of n plain images: a subclass says what chooses.

    Without `n`, as many images as take the time of the run's own steering; plain and steered images come first.
    """

    n: int | None = Field(default=None, ge=1, le=1000, description="default: as many as take the time of steering")

    @abstractmethod
    def chooser(self, context: SampleContext) -> Chooser:
        """Return what chooses."""

    @abstractmethod
    def chosen_by(self, paths: RunPaths) -> Any:
        """Return what tells its choices from others, JSON-able."""

    def identity(self, paths: RunPaths) -> list[Any]:
        as_long_as = [paths.samples(PLAIN).name, paths.samples(MAIN).name] if self.n is None else None
        return [self.model_dump(mode="json"), self.chosen_by(paths), as_long_as]

    def work(self, config: RunConfig) -> Work:
        """Return the work of n images; without `n`, that of one with steering."""
        return Work(
            guided=(self.n or 1) * config.backbone.steps,
            gradients=config.steering.most_updates if self.n is None else 0,
        )

    def sample(self, context: SampleContext, items: Sequence[EvalItem]) -> SampleShard:
        n = equal_time_n(context.seconds(PLAIN), context.seconds(MAIN)) if self.n is None else self.n
        return select_items(context.sampler, items, self.chooser(context), n=n, taken=context.taken)

    def label(self, name: str, images: Sequence[JudgedImage]) -> str:
        return f"{name} (of {images[0].candidates})"


class BestOfN(Selection):
    """The plain image of n whose relation the run's own classifier reads most surely."""

    NOTE = "no steering; of several plain images, the one whose relation this run's classifier reads most surely"
    kind: Literal["best-of-n"]

    def chooser(self, context: SampleContext) -> Chooser:
        return ClassifierChooser(context.classifier(MAIN))

    def chosen_by(self, paths: RunPaths) -> str:
        return paths.classifier_identity(MAIN)

    def work(self, config: RunConfig) -> Work:
        return super().work(config) + Work(forwards=(self.n or 1) * len(config.capture.steps))


class BestOfNByJudge(Selection):
    """The plain image of n that the judge itself likes best: what a perfect chooser could reach."""

    NOTE = "no steering; of several plain images, one that the judge calls correct if there is any (an upper bound)"
    UPPER_BOUND = True
    kind: Literal["best-of-n-judge"]

    def chooser(self, context: SampleContext) -> Chooser:
        return JudgeChooser(context.judging())

    def chosen_by(self, paths: RunPaths) -> list[Any]:
        return [*paths.judged_by, paths.config.benchmark.min_score]
