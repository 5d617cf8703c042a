"""What a round of training a denoiser is shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from l2s_core.miniworld.world.captions import CaptionStyle
from l2s_core.miniworld.world.scenes import COUNTS

Share = Annotated[float, Field(gt=0, lt=1)]


class SceneRound(CaptionStyle):
    """A number of rendered scenes and their captions; `counts` are the shares of scenes of one, two, three … objects.

    `decisive` (low, high, share) takes that share of the noise levels from between two of them, where it is decided
    what will be there and how often; levels are shares of the schedule of a diffusion model, the sigma of a flow.
    """

    scenes: int = Field(ge=1)
    counts: tuple[float, ...] = COUNTS
    decisive: tuple[Share, Share, Share] | None = None
