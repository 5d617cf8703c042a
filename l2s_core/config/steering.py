"""How the classifier's gradient moves the latents."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from l2s_core.config.base import Section


class SteeringConfig(Section):
    """How the classifier's gradient moves the latents."""

    OPTIONAL = ("guidance",)
    until_step: int = Field(ge=1)
    updates: int = Field(ge=1, le=100)
    step_size: float = Field(gt=0)
    normalize: Literal["none", "rms"]
    confidence: float | None = Field(default=None, gt=0, lt=1)
    min_loss: float = Field(default=0.0, ge=0)
    guidance: float | None = Field(
        default=None,
        ge=0,
        le=30,
        description="guidance in the passes that steer, for a model that has it as an input; default: none",
    )
    several: Literal["joint", "cycle"] = Field(
        default="joint",
        description="relations of one prompt: all in one loss, or those of one pair of objects an update, in rotation",
    )

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
