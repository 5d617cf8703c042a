"""Steering with the paper's schedule."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from l2s_core.evaluation.methods.steered import ByClassifier


class Paper(ByClassifier):
    """Steering by a classifier of the run with the paper's schedule: the gradient as it is, no confidence."""

    NOTE = (
        "this run's classifier with the paper's schedule: "
        "the gradient as it is, up to the last update of every steered step"
    )
    BASE = "paper"
    kind: Literal["paper"]

    @model_validator(mode="after")
    def _as_published(self) -> Paper:
        if self.steering.normalize != "none" or self.steering.confidence is not None:
            raise ValueError(
                "kind paper takes the gradient as it is: steering.normalize none and no steering.confidence; "
                "else use kind classifier"
            )
        return self
