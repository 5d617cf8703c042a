"""Sampling as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from l2s_core.config import RunConfig
from l2s_core.evaluation.methods.method import Method, SampleContext
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.samples import SampleShard, sample_items
from l2s_core.evaluation.work import Work
from l2s_core.storage.run_paths import RunPaths


class Plain(Method):
    """Sampling as it is."""

    NOTE = "the plain images again"
    kind: Literal["plain"]

    def identity(self, paths: RunPaths) -> None:
        return None

    def work(self, config: RunConfig) -> Work:
        return Work(guided=config.backbone.steps)

    def sample(self, context: SampleContext, items: Sequence[EvalItem]) -> SampleShard:
        return sample_items(context.sampler, items)
