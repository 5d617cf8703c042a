"""A whole experiment."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from l2s_core.config.backbone import BackboneConfig
from l2s_core.config.base import Section
from l2s_core.config.benchmark import BenchmarkConfig
from l2s_core.config.capture import CaptureConfig
from l2s_core.config.chosen import chosen_by
from l2s_core.config.classifier import INVERTED, TRAJECTORIES, ClassifierConfig
from l2s_core.config.data import DataConfig
from l2s_core.config.inversion import InversionConfig
from l2s_core.config.methods import MAIN, PLAIN, MethodConfig
from l2s_core.config.steering import SteeringConfig
from l2s_core.registry import PROTOCOLS, SOURCES


class ToleranceConfig(Section):
    """How far a scheduled reproduction's figures may lie from the last good run's, up or down, before it fails."""

    correct: float = Field(default=0.05, ge=0, le=1, description="share of images with the right relation")
    all_found: float = Field(default=0.05, ge=0, le=1, description="share of images with all objects")
    accuracy: float = Field(default=0.03, ge=0, le=1, description="test accuracy of a classifier")


class RunConfig(Section):
    """A whole experiment.

    With `trajectories`, the backbone also samples that many images of prompts over each scene's objects; their maps are recorded
    meanwhile, and labelled with the relation that the benchmark's judge finds in the image.
    """

    OPTIONAL = ("methods", "trajectories")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch: int = Field(default=32, ge=1)
    shard: int = Field(default=64, ge=1, description="scenes, or prompts, of one shard")
    backbone: BackboneConfig
    data: Annotated[DataConfig, chosen_by("source", SOURCES)]
    inversion: InversionConfig
    capture: CaptureConfig
    trajectories: int = Field(default=0, ge=0, description="images sampled for each scene of the data")
    classifier: ClassifierConfig
    classifiers: dict[str, ClassifierConfig] = Field(default={}, description="further classifiers, by name")
    steering: SteeringConfig
    methods: dict[str, MethodConfig] = Field(
        default={}, description="further methods of making the same images, by name"
    )
    benchmark: Annotated[BenchmarkConfig, chosen_by("protocol", PROTOCOLS)]
    tolerance: ToleranceConfig = ToleranceConfig()

    @property
    def inverts(self) -> bool:
        """Whether a classifier of the run learns from inverted scenes."""
        return any(classifier.maps != TRAJECTORIES for classifier in (self.classifier, *self.classifiers.values()))

    @model_validator(mode="after")
    def _steps_fit(self) -> RunConfig:
        steps, unknown = self.backbone.steps, set(self.benchmark.asked_relations) - set(self.data.stated)
        if unknown:
            raise ValueError(
                f"the benchmark asks for {', '.join(sorted(unknown))}, but data.relations has no scenes of it"
            )
        if self.capture.steps[-1] >= steps:
            raise ValueError(
                f"capture.steps reaches {self.capture.steps[-1]}, but backbone.steps is {steps} (0 to {steps - 1})"
            )
        start, stop = self.inversion.start, steps if self.inversion.stop is None else self.inversion.stop
        if not start < stop <= steps:
            raise ValueError(
                f"inversion.start is {start} and inversion.stop {stop}; allowed: start below stop, and stop at most backbone.steps, {steps}"
            )
        return self

    @model_validator(mode="after")
    def _steering_fits(self) -> RunConfig:
        steered = {
            f"methods.{name}.steering": getattr(method, "steering", None) for name, method in self.methods.items()
        }
        steps, last = self.backbone.steps, self.capture.steps[-1]
        for place, steering in {"steering": self.steering, **steered}.items():
            if steering is not None and steering.until_step > steps:
                raise ValueError(f"{place}.until_step is {steering.until_step}, but backbone.steps is {steps}")
            if steering is not None and steering.until_step - 1 > last:
                raise ValueError(f"{place}.until_step {steering.until_step} goes past the last captured step {last}")
        return self

    @model_validator(mode="after")
    def _attributes_are_known(self) -> RunConfig:
        for name, method in self.methods.items():
            if method.kind == "centroid" and self.benchmark.asks_for_colors and self.data.attribute_words:
                raise ValueError(
                    f"methods.{name} steers by centroids, which know no attributes; leave it out, or benchmark.tags with colours"
                )
        return self

    @model_validator(mode="after")
    def _maps_are_there(self) -> RunConfig:
        wanted = {
            "classifier": self.classifier,
            **{f"classifiers.{name}": classifier for name, classifier in self.classifiers.items()},
        }
        for place, classifier in wanted.items():
            if classifier.maps != INVERTED and not self.trajectories:
                raise ValueError(
                    f"{place}.maps is {classifier.maps}, but the run samples none; set trajectories to 1 or more, or {place}.maps to inverted"
                )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> RunConfig:
        for name in self.methods:
            if name in (PLAIN, MAIN, *self.classifiers):
                raise ValueError(
                    f"methods.{name} has the name of another method ({PLAIN}, {MAIN} and the classifiers' are taken); rename it"
                )
            if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
                raise ValueError(f"methods.{name}: a name has small letters, digits, '.', '_' and '-' only")
        return self


# Sections that a run may name instead of spelling out: configs/<folder>/<name>.yaml
