"""How the classifier's gradient moves the latents."""

from __future__ import annotations

from math import inf
from typing import Any, Literal

from pydantic import Field, field_validator

from l2s_core.config.base import Section


class SteeringConfig(Section):
    """How the classifier's gradient moves the latents."""

    OPTIONAL = ("guidance",)
    until_step: int = Field(ge=1)
    updates: int = Field(ge=1, le=100)
    step_size: float = Field(gt=0)
    normalize: Literal["none", "rms"]
    confidence: float | None = Field(default=None, gt=0, lt=1)
    min_loss: float | tuple[float, ...] = Field(
        default=0.0, description="loss below which a relation is satisfied; of a list, the last holds from its step on"
    )
    guidance: float | None = Field(
        default=None,
        ge=0,
        le=30,
        description="guidance in the passes that steer, for a model that has it as an input; default: none",
    )
    several: Literal["joint", "open", "each", "cycle", "round-robin"] = Field(
        default="joint",
        description="relations of one prompt: all in one loss; the unsatisfied in one loss; a gradient and a step for "
        "each unsatisfied pair; those of one pair an update, in rotation among the unsatisfied; or in fixed turns, and "
        "the step ends with the first turn that finds its pair satisfied",
    )

    @field_validator("min_loss", mode="before")
    @classmethod
    def _losses(cls, value: Any) -> float | tuple[float, ...]:
        try:
            losses = tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),)
        except (TypeError, ValueError):
            losses = ()
        if not losses or not all(0 <= loss < inf for loss in losses):
            raise ValueError("allowed: a number of 0 or more, or a list of such numbers, one a step")
        return losses if isinstance(value, list | tuple) else losses[0]

    def min_loss_at(self, step: int) -> float:
        """The loss below which a relation is satisfied at a step."""
        if isinstance(self.min_loss, tuple):
            return self.min_loss[min(step, len(self.min_loss) - 1)]
        return self.min_loss

    @property
    def most_updates(self) -> int:
        """The gradients of an image that no update satisfies."""
        return self.until_step * self.updates

    def require_fit(self, place: str, *, steps: int, last: int) -> None:
        """Raise ValueError where it does not go with a schedule of `steps` whose last captured step is `last`."""
        if self.until_step > steps:
            raise ValueError(f"{place}.until_step is {self.until_step}, but backbone.steps is {steps}")
        if self.until_step - 1 > last:
            raise ValueError(f"{place}.until_step {self.until_step} goes past the last captured step {last}")
