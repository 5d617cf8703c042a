"""Steering by the attention centroids of the two phrases."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from l2s_core.config import RunConfig
from l2s_core.evaluation.methods.method import SampleContext
from l2s_core.evaluation.methods.steering_method import AttentionMethod
from l2s_core.steering.objectives import CentroidObjective


class Centroid(AttentionMethod):
    """Steering by a handcrafted loss on the attention centroids of the two phrases."""

    NOTE = "a handcrafted loss: the attention centroids of the phrases apart by a margin along the relation's axis"
    kind: Literal["centroid"]
    margin: float = Field(
        default=0.03, gt=0, lt=1, description="wanted distance of the centroids, share of the map's longer side"
    )

    def objective(self, context: SampleContext) -> CentroidObjective:
        return CentroidObjective(source=self.maps(context), margin=self.margin)

    def require_fit(self, run: RunConfig, place: str) -> None:
        super().require_fit(run, place)
        if run.benchmark.asks_for_colors and run.data.attribute_words:
            raise ValueError(
                f"{place} steers by centroids, which know no attributes; leave it out, or benchmark.tags with colours"
            )
