"""A whole experiment."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from l2s_core.config.backbone import BackboneConfig
from l2s_core.config.base import MAX_COUNT, Section
from l2s_core.config.benchmark import BenchmarkConfig
from l2s_core.config.capture import CaptureConfig
from l2s_core.config.chosen import chosen_by
from l2s_core.config.classifier import INVERTED, TRAJECTORIES, ClassifierConfig
from l2s_core.config.data import DataConfig
from l2s_core.config.inversion import InversionConfig
from l2s_core.config.methods import MAIN, PLAIN, MethodConfig
from l2s_core.config.steering import SteeringConfig
from l2s_core.registry import METHODS, PROTOCOLS, SOURCES
from l2s_core.relations import PLANAR

NAME = r"[a-z0-9][a-z0-9._-]*"
MAX_NAME = 80  # characters: names become parts of file names


class ToleranceConfig(Section):
    """How far a scheduled reproduction's figures may lie from the accepted ones, up or down, before it fails."""

    correct: float = Field(default=0.05, ge=0, le=1, description="share of images with the right relation")
    all_found: float = Field(default=0.05, ge=0, le=1, description="share of images with all objects")
    accuracy: float = Field(default=0.03, ge=0, le=1, description="test accuracy of a classifier")


class RunConfig(Section):
    """A whole experiment.

    With `trajectories`, the backbone also samples that many images of prompts over each scene's objects; their maps are
    recorded meanwhile, and labelled with the relation that the benchmark's judge finds in the image.
    """

    OPTIONAL = ("methods", "trajectories")
    name: str = Field(pattern=rf"^{NAME}$", max_length=MAX_NAME)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch: int = Field(default=32, ge=1, le=4096)
    shard: int = Field(default=64, ge=1, le=MAX_COUNT, description="scenes, or prompts, of one shard")
    backbone: BackboneConfig
    data: Annotated[DataConfig, chosen_by("source", SOURCES)]
    inversion: InversionConfig
    capture: CaptureConfig
    trajectories: int = Field(default=0, ge=0, le=MAX_COUNT, description="images sampled for each scene of the data")
    classifier: ClassifierConfig
    classifiers: dict[str, ClassifierConfig] = Field(default={}, description="further classifiers, by name")
    steering: SteeringConfig
    methods: dict[str, Annotated[MethodConfig, chosen_by("kind", METHODS)]] = Field(
        default={}, description="further methods of making the same images, by name"
    )
    benchmark: Annotated[BenchmarkConfig, chosen_by("protocol", PROTOCOLS)]
    tolerance: ToleranceConfig = ToleranceConfig()

    @property
    def every_classifier(self) -> dict[str, ClassifierConfig]:
        """Every classifier of the run by name, its own first."""
        return {MAIN: self.classifier, **self.classifiers}

    @property
    def every_method(self) -> dict[str, MethodConfig]:
        """Every method of the run by name, in the order they are sampled: plain, the classifiers', the further ones."""
        plain = METHODS.load("plain")(kind="plain")
        steered = METHODS.load("classifier")
        by_classifiers = {
            name: steered(kind="classifier", classifier=name, steering=self.steering) for name in self.every_classifier
        }
        return {PLAIN: plain, **by_classifiers, **self.methods}

    @property
    def inverts(self) -> bool:
        """Whether a classifier of the run learns from inverted scenes."""
        return any(classifier.maps != TRAJECTORIES for classifier in self.every_classifier.values())

    @model_validator(mode="after")
    def _steps_fit(self) -> RunConfig:
        steps = self.backbone.steps
        unknown = set(self.benchmark.asked_relations) - set(self.data.stated)
        if unknown:
            raise ValueError(
                f"the benchmark asks for {', '.join(sorted(unknown))}, but data.relations has no scenes of it; "
                f"set benchmark.relations to {', '.join(self.data.stated)}"
            )
        if self.capture.steps[-1] >= steps:
            raise ValueError(
                f"capture.steps reaches {self.capture.steps[-1]}, but backbone.steps is {steps} (0 to {steps - 1})"
            )
        start = self.inversion.start
        stop = steps if self.inversion.stop is None else self.inversion.stop
        if not start < stop <= steps:
            raise ValueError(
                f"inversion.start is {start} and inversion.stop {stop}; "
                f"allowed: start below stop, and stop at most backbone.steps, {steps}"
            )
        return self

    @model_validator(mode="after")
    def _methods_fit(self) -> RunConfig:
        self.steering.require_fit("steering", steps=self.backbone.steps, last=self.capture.steps[-1])
        for name, method in self.methods.items():
            method.require_fit(self, f"methods.{name}")
        return self

    @model_validator(mode="after")
    def _maps_are_there(self) -> RunConfig:
        wanted = {
            "classifier": self.classifier,
            **{f"classifiers.{name}": classifier for name, classifier in self.classifiers.items()},
        }
        for place, classifier in wanted.items():
            if classifier.labels == "powerset" and not set(PLANAR) <= set(self.data.labels):
                raise ValueError(
                    f"{place}.labels is powerset, a class for every diagonal, and data.relations lacks one of "
                    f"{', '.join(PLANAR)}; add it, or choose other labels"
                )
            if classifier.maps != INVERTED and not self.trajectories:
                raise ValueError(
                    f"{place}.maps is {classifier.maps}, but the run samples none; "
                    f"set trajectories to 1 or more, or {place}.maps to inverted"
                )
        if self.trajectories and not self.data.shown:
            raise ValueError(
                "trajectories are labelled by the boxes of a judge, and no box shows "
                f"{' or '.join(self.data.stated)}; set trajectories to 0, or add to data.relations"
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> RunConfig:
        taken = [PLAIN, MAIN]
        for place, names in (("classifiers", self.classifiers), ("methods", self.methods)):
            for name in names:
                if name in taken:
                    raise ValueError(
                        f"{place}.{name} has the name of another method ({', '.join(taken)} are taken); rename it"
                    )
                if not re.fullmatch(NAME, name) or len(name) > MAX_NAME:
                    raise ValueError(
                        f"{place}.{name[:MAX_NAME]}: a name has small letters, digits, '.', '_' and '-' only, "
                        f"a letter or digit first, and at most {MAX_NAME} characters"
                    )
            taken += names
        return self
