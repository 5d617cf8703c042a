"""T2I-CompBench's 2D- and 3D-spatial tasks (Huang et al. 2023, arXiv 2307.06350): own prompts in form, or official."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from l2s_core.config import RunConfig
from l2s_core.data.source import source_of
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.protocols import spatial_prompts, spatial_rules
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import AskedPrompt, NamedBox, Protocol
from l2s_core.evaluation.protocols.verdict import Verdict
from l2s_core.prompts.prompt import SeveralPrompt
from l2s_core.relations import PLANAR, RELATIONS


class Spatial(Protocol):
    """Two objects and where one is of the other, or that they are close; the score is a soft one.

    With `depth`, a model that tells it, prompts may ask for "in front of" and "behind" (`relations`), the 3D task.
    """

    RULE: ClassVar[str] = "T2I-CompBench"

    OPTIONAL: ClassVar[tuple[str, ...]] = (*Protocol.OPTIONAL, "depth")
    protocol: Literal["spatial"] = "spatial"
    depth: str | None = Field(default=None, description="a depth model of transformers: Depth Anything or DPT")

    @property
    def judged_relations(self) -> tuple[str, ...]:
        return PLANAR if self.depth is None else RELATIONS

    @property
    def depth_model(self) -> str | None:
        return None if set(self.relations) <= set(PLANAR) else self.depth

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
            phrases = spatial_rules.phrases_of(self.relations)
            prompts = [one for one in read if one.phrase in phrases][: self.prompts]
            if not prompts:
                raise UserError(
                    f"{self.file} has no prompt of benchmark.relations ({', '.join(self.relations)}); "
                    "for the 3D task set them to in front of and behind, and benchmark.depth to a depth model"
                )
        else:
            prompts = spatial_prompts.generate_prompts(self.suite, self.prompts, self.relations)
        for number, spatial in enumerate(prompts):
            names = (spatial.subject, spatial.object)
            nothing = SeveralPrompt(text=spatial.text, triplets=(), objects=names, spans=())
            yield AskedPrompt(
                group="spatial-3d" if spatial.is_3d else "spatial",
                number=number,
                prompt=spatial.as_prompt() or nothing,
                label=spatial.phrase,
                record=spatial,
            )
