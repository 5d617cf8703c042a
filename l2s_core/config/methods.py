"""Further methods of making the same images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from l2s_core.config.base import Section
from l2s_core.config.steering import SteeringConfig

MAIN = "main"  # the run's own classifier, beside the further ones
PLAIN = "plain"  # sampling without a classifier


class PlainMethod(Section):
    """Sampling as it is: the same images as the run's plain ones."""

    kind: Literal["plain"]


class ClassifierMethod(Section):
    """Steering by the run's own classifier with other settings."""

    kind: Literal["classifier"]
    steering: SteeringConfig


class PaperMethod(Section):
    """Steering by the run's own classifier with the paper's schedule: the gradient as it is, no confidence."""

    kind: Literal["paper"]
    steering: SteeringConfig

    @model_validator(mode="after")
    def _as_published(self) -> PaperMethod:
        if self.steering.normalize != "none" or self.steering.confidence is not None:
            raise ValueError(
                "kind paper takes the gradient as it is: steering.normalize none and no steering.confidence; else use kind classifier"
            )
        return self


class HandcraftedMethod(Section):
    """Steering by a loss on the attention maps; `confidence` is a classifier's and has no meaning here."""

    steering: SteeringConfig

    @model_validator(mode="after")
    def _without_classifier(self) -> HandcraftedMethod:
        if self.steering.confidence is not None:
            raise ValueError(
                "steering.confidence is a classifier's; leave it out (null takes it out of a file's settings)"
            )
        return self


class CentroidMethod(HandcraftedMethod):
    """Steering by the attention centroids of the two phrases."""

    kind: Literal["centroid"]
    margin: float = Field(
        default=0.03, gt=0, lt=1, description="wanted distance of the centroids, share of the map's side"
    )


class AttendMethod(HandcraftedMethod):
    """Steering by Attend-and-Excite's loss."""

    kind: Literal["attend-and-excite"]
    presence: float = Field(
        default=1.0, gt=0, le=1, description="peak attention of the weaker phrase that is enough; 1: never"
    )


class SelectionMethod(Section):
    """The best of n plain images, chosen by the run's own classifier, or by the judge itself (an upper bound)."""

    kind: Literal["best-of-n", "best-of-n-judge"]
    n: int | None = Field(default=None, ge=1, le=1000, description="default: as many as take the time of steering")


MethodConfig = Annotated[
    PlainMethod | ClassifierMethod | PaperMethod | CentroidMethod | AttendMethod | SelectionMethod,
    Field(discriminator="kind"),
]
