"""T2I-CompBench's 2D-spatial task (Huang et al. 2023, arXiv 2307.06350): own prompts in its form, or the official."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from l2s_core.config import RunConfig
from l2s_core.data.source import source_of
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.protocols import spatial_prompts, spatial_rules
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import AskedPrompt, NamedBox, Protocol
from l2s_core.evaluation.protocols.verdict import Verdict
from l2s_core.prompts.prompt import SeveralPrompt


class Spatial(Protocol):
    """Two objects and where one is of the other, or that they are close; the score is a soft one."""

    RULE: ClassVar[str] = "T2I-CompBench"

    protocol: Literal["spatial"] = "spatial"

    def items(self, config: RunConfig) -> list[EvalItem]:
        if self.file is None and source_of(config.data).drawable.objects is not None:
            raise UserError(
                "benchmark.protocol spatial asks for people and furniture, which "
                f"data.source {config.data.source} lacks; use it for photographs"
            )
        return self.numbered_items(self._prompts())

    def verdict(
        self,
        item: EvalItem,
        detections: Sequence[Detection],
        size: tuple[int, int],
        colors: Mapping[NamedBox, str],
    ) -> Verdict:
        return spatial_rules.score_image(item.record, detections, size)

    def class_of(self, name: str) -> str:
        return spatial_rules.detector_class(name)

    def least_score(self, item: EvalItem) -> float:
        return spatial_rules.MIN_SCORE

    def _prompts(self) -> Iterator[AskedPrompt]:
        if self.file is not None:
            read = spatial_rules.read_prompts(self.file)
            prompts = [one for one in read if self.asks([spatial_rules.PHRASES[one.phrase]])][: self.prompts]
        else:
            prompts = spatial_prompts.generate_prompts(self.suite, self.prompts, self.relations)
        for number, spatial in enumerate(prompts):
            names = (spatial.subject, spatial.object)
            nothing = SeveralPrompt(text=spatial.text, triplets=(), objects=names, spans=())
            yield AskedPrompt(
                group="spatial",
                number=number,
                prompt=spatial.as_prompt() or nothing,
                label=spatial.phrase,
                record=spatial,
            )
