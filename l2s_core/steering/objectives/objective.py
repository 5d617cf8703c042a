"""What an objective is: a loss on the attention maps of two phrases, and when it is low enough."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from l2s_core.dataset.schema import MapSource
from l2s_core.errors import UserError
from l2s_core.relations import ATTRIBUTE, LABELS
from l2s_core.steering.targets import Targets


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """A loss over attention maps of `source`, and the rule by which a relation is satisfied.

    Without a rule of its own nothing is: steering then goes by `steering.min_loss` alone. `normalized` says which maps
    it reads: each summing to 1, or the attention itself, a probability a cell; None: those of its source.
    """

    source: MapSource
    normalized: ClassVar[bool | None] = True

    @abstractmethod
    def loss(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor) -> Tensor:
        """Return loss_B, differentiable in the maps.

        `capture_index_B` is the position among the captured steps, `label_B` the wanted relation, an index in LABELS.
        """

    def loss_among(self, maps_BOMGG: Tensor, capture_index_B: Tensor, label_B: Tensor, wanted_BR: Tensor) -> Tensor:
        """Return loss_B of relations whose pairs have to show all of `wanted_BR` (see Targets.wanted_PR).

        Where they do not compete, that is the loss of the relation alone.
        """
        return self.loss(maps_BOMGG, capture_index_B, label_B)

    def satisfied(self, loss_B: Tensor) -> Tensor:
        """Return which relations need no further update; never one whose loss is not a number."""
        return torch.zeros_like(loss_B, dtype=torch.bool)

    @property
    def one_loss_a_pair(self) -> bool:
        """Whether the relations asked of one pair share one loss, which then counts once and not once for each."""
        return False

    @property
    def supported_relations(self) -> tuple[str, ...]:
        """The relations it has a loss for."""
        return self.source.relations

    def require_known(self, targets: Targets) -> None:
        """Raise UserError for a relation that this objective has no loss for."""
        supported = self.supported_relations
        asked = [LABELS[label] for label in sorted(set(targets.label_P.tolist()))]
        unknown = [name for name in asked if name not in supported]
        if unknown:
            way_out = (
                "with data.attributes, or leave data.attributes out: colours are then not steered"
                if unknown[0] == ATTRIBUTE
                else f"whose data.relations has {unknown[0]!r} (l2s_core/data/README.md), or ask for one that is known"
            )
            raise UserError(
                f"a prompt asks for the relation {unknown[0]!r}, and this objective knows {', '.join(supported)}; "
                f"train a classifier on data {way_out}"
            )

    def require(self, source: MapSource) -> None:
        """Raise UserError unless `source` is exactly what this objective reads."""
        differences = self.source.differences(source)
        if differences:
            raise UserError(
                f"this objective reads other maps: {'; '.join(differences)} (its own value first); "
                "build it for this model and schedule"
            )
