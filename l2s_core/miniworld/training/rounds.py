"""What a round of training a denoiser is shown."""

from __future__ import annotations

from pydantic import Field

from l2s_core.config import Section
from l2s_core.miniworld.world.scenes import COUNTS


class SceneRound(Section):
    """A number of rendered scenes and their captions.

    `counts` are the shares of scenes of one, two and three objects, `chained` the share of captions of three that
    state two relations.
    """

    scenes: int = Field(ge=1)
    counts: tuple[float, ...] = COUNTS
    chained: float = Field(default=0.0, ge=0, le=1)
