"""Attend-and-Excite's objective: that the image attends to both phrases at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from l2s_core.relations import LABELS
from l2s_core.steering.objectives.objective import Objective

SMOOTHING_SIGMA = 0.5  # pixels of the map grid; Attend-and-Excite's, over 3 x 3


@dataclass(frozen=True, kw_only=True)
class PresenceObjective(Objective):
    """Attend-and-Excite's loss (Chefer et al. 2023, arXiv 2301.13826): 1 - the peak of the more neglected phrase.

    As there: attention is averaged over layers and heads and smoothed by a 3 x 3 Gaussian of sigma 0.5. A phrase's
    peak is its largest cell, and the smaller of the two peaks counts. The loss names no relation and cannot tell them
    apart.

    Different here:

    1. A phrase's attention is the mean over its tokens, and is read as it is, a probability. The original leaves out
    the
       start token and takes a second softmax over the others, of 100 times the attention. That needs every token's
       map, and not those of two phrases. Maps that sum to 1 would not do: they no longer say how much a phrase is
       attended to. So peaks are smaller than in the paper (0.02 to 0.05 in plain images of mini-sd), and its
       thresholds 0.05, 0.5 and 0.8 mean nothing here: `presence` is on this scale, for every step alike.
    2. All captured layers are read, resized to the grid, and not those of 16 x 16 alone. 3. Step sizes and the number
    of updates are the steering loop's, the same for every step. There is no decay, and there
       are no more updates at three chosen steps than at the others.

    Satisfied at a peak >= `presence`; at 1, never.
    """

    normalized: ClassVar[bool | None] = False
    presence: float = 1.0

    @property
    def supported_relations(self) -> tuple[str, ...]:
        return LABELS

    def loss(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor) -> Tensor:
        peak_BO = smoothed(maps_BOMGG.mean(2)).flatten(2).amax(-1)
        return 1 - peak_BO.amin(1)

    def satisfied(self, loss_B: Tensor) -> Tensor:
        return super().satisfied(loss_B) | (1 - loss_B >= self.presence)


def smoothed(maps_BOGG: Tensor, sigma: float = SMOOTHING_SIGMA) -> Tensor:
    """Return maps under a 3 x 3 Gaussian, reflected at the borders."""
    distance_3 = torch.tensor([-1.0, 0.0, 1.0], device=maps_BOGG.device, dtype=maps_BOGG.dtype)
    weight_3 = torch.exp(-distance_3.square() / (2 * sigma**2))
    before, centre, after = (weight_3 / weight_3.sum()).unbind()
    wide = pad(maps_BOGG, (1, 1, 1, 1), mode="reflect")
    rows = before * wide[..., :-2, :] + centre * wide[..., 1:-1, :] + after * wide[..., 2:, :]
    return before * rows[..., :-2] + centre * rows[..., 1:-1] + after * rows[..., 2:]
