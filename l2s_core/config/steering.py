"""How the classifier's gradient moves the latents."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from l2s_core.config.base import Section


class SteeringConfig(Section):
    """How the classifier's gradient moves the latents."""

    until_step: int = Field(ge=1)
    updates: int = Field(ge=1, le=100)
    step_size: float = Field(gt=0)
    normalize: Literal["none", "rms"]
    confidence: float | None = Field(default=None, gt=0, lt=1)
    min_loss: float = Field(default=0.0, ge=0)
    several: Literal["joint", "cycle"] = Field(
        default="joint",
        description="relations of one prompt: all in one loss, or those of one pair of objects an update, in rotation",
    )
