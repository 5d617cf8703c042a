"""Steering by Attend-and-Excite's loss (Chefer et al. 2023, arXiv 2301.13826)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from l2s_core.evaluation.methods.method import SampleContext
from l2s_core.evaluation.methods.steering_method import AttentionMethod
from l2s_core.steering.objectives import PresenceObjective


class AttendAndExcite(AttentionMethod):
    """Steering by Attend-and-Excite's loss, which names no relation."""

    NOTE = "the loss of Attend-and-Excite, which strengthens the more neglected phrase and knows no relations"
    kind: Literal["attend-and-excite"]
    presence: float = Field(
        default=1.0, gt=0, le=1, description="peak attention of the weaker phrase that is enough; 1: never"
    )

    def objective(self, context: SampleContext) -> PresenceObjective:
        return PresenceObjective(source=self.maps(context), presence=self.presence)
