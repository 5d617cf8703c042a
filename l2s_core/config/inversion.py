"""How images become noise."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from l2s_core.config.base import Section


class InversionConfig(Section):
    """How images become noise, and how well the noise must give them back.

    `fixed-point` solves each step of the sampler backwards, for every family. `rectified-flow` follows
    RF-Inversion's controlled paths, for flow models: gamma pulls the way out to fresh noise, eta the way
    back to the image, in steps start <= step < stop. `times` are those at which the way out's steps are taken.
    """

    OPTIONAL = ("times",)
    method: Literal["fixed-point", "rectified-flow"] = "fixed-point"
    iterations: int = Field(default=5, ge=1, le=50, description="denoiser evaluations a step (fixed-point)")
    gamma: float = Field(default=1.0, ge=0, le=1)
    eta: float = Field(default=1.0, ge=0, le=1)
    times: Literal["path", "count"] = Field(
        default="path",
        description="of the way out's steps: the noise level that the path has reached, or step i of n at i / (n + 1), "
        "as in the paper's code, which leaves a part of the image in the noise",
    )
    start: int = Field(default=0, ge=0)
    stop: int | None = Field(default=None, ge=1, description="default: all steps")
    min_psnr: float = Field(ge=0, le=99)

    @property
    def noises_alone(self) -> bool:
        """Whether a scene is noised along a straight line and led back along it, without the model's word."""
        whole = self.start == 0 and self.stop is None and self.times == "path"
        return self.method == "rectified-flow" and self.gamma == self.eta == 1 and whole
