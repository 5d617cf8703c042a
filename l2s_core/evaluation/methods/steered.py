"""Steering by a trained classifier (Learn-to-Steer, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from l2s_core.config import MAIN, RunConfig
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.methods.method import SampleContext
from l2s_core.evaluation.methods.steering_method import SteeringMethod
from l2s_core.steering.objectives import ClassifierObjective
from l2s_core.storage.run_paths import RunPaths


class ByClassifier(SteeringMethod):
    """Base of methods that steer by a classifier of the run, by default its own."""

    OPTIONAL: ClassVar[tuple[str, ...]] = ("classifier",)
    classifier: str = MAIN

    def identity(self, paths: RunPaths) -> list[Any]:
        return [paths.classifier_identity(self.classifier), self.steering.model_dump(mode="json")]

    def objective(self, context: SampleContext) -> ClassifierObjective:
        return ClassifierObjective.of(context.classifier(self.classifier), self.steering)

    def require_fit(self, run: RunConfig, place: str) -> None:
        super().require_fit(run, place)
        if self.classifier not in run.every_classifier:
            names = ", ".join(run.every_classifier)
            raise ValueError(f"{place}.classifier is {self.classifier!r}, and the run has {names}")


class Steered(ByClassifier):
    """Steering by a classifier of the run."""

    NOTE = "this run's classifier with other steering settings"
    kind: Literal["classifier"]

    def label(self, name: str, images: Sequence[JudgedImage]) -> str:
        if name != self.classifier:
            return name
        return "steered" if name == MAIN else f"steered by {name}"
