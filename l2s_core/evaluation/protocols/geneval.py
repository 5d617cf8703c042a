"""GenEval's tasks (Ghosh et al. 2023, arXiv 2310.11513): own prompts in their form, or the official metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from l2s_core.config import Relation, RunConfig
from l2s_core.data.source import source_of
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.protocols import geneval_metadata, geneval_prompts, geneval_rules
from l2s_core.evaluation.protocols.classes import GENEVAL_CLASSES
from l2s_core.evaluation.protocols.geneval_rules import COLOR_TAGS, GenevalRecord
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import AskedPrompt, NamedBox, Protocol
from l2s_core.evaluation.protocols.verdict import Verdict
from l2s_core.prompts.prompt import Phrases, SeveralPrompt
from l2s_core.relations import ATTRIBUTE


class Geneval(Protocol):
    """GenEval's tasks, `prompts` of each; a run of colours needs `clip`, which tells them."""

    protocol: Literal["geneval"] = "geneval"
    tags: tuple[Literal["position", "single_object", "two_object", "counting", "colors", "color_attr"], ...] = Field(
        default=("position",), min_length=1, description="tasks"
    )

    @model_validator(mode="after")
    def _tasks_fit(self) -> Geneval:
        if self.file is None and "counting" in self.tags:
            raise ValueError("benchmark.tags counting needs benchmark.file, GenEval's evaluation_metadata.jsonl")
        if self.asks_for_colors and self.clip is None:
            raise ValueError(
                f"benchmark.tags {', '.join(self.tags)} asks for colours, and nothing here tells them; "
                "set benchmark.clip to a CLIPModel (GenEval's is openai/clip-vit-large-patch14)"
            )
        return self

    @property
    def asks_for_colors(self) -> bool:
        return not set(COLOR_TAGS).isdisjoint(self.tags)

    @property
    def asked_relations(self) -> tuple[Relation, ...]:
        return self.relations if "position" in self.tags else ()

    @property
    def is_papers_task(self) -> bool:
        return self.tags == ("position",)

    def items(self, config: RunConfig) -> list[EvalItem]:
        return self.numbered_items(self._prompts(config))

    def verdict(
        self,
        item: EvalItem,
        detections: Sequence[Detection],
        size: tuple[int, int],
        colors: Mapping[NamedBox, str],
    ) -> Verdict:
        return geneval_rules.score_image(item.record, detections, colors)

    def least_score(self, item: EvalItem) -> float:
        record: GenevalRecord = item.record
        return record.least_score

    def colored_boxes(self, item: EvalItem, detections: Sequence[Detection]) -> list[NamedBox]:
        return geneval_rules.colored_boxes(item.record, detections)

    def records(self, config: RunConfig) -> list[GenevalRecord]:
        """Return the records of a run, in the order of its prompts; raises UserError as `items` does."""
        drawable = source_of(config.data).drawable
        if self.asks_for_colors and not drawable.attributes:
            raise UserError(
                f"benchmark.tags {' and '.join(COLOR_TAGS)} ask for colours, and the objects of data.source "
                f"{config.data.source} have their own; allowed here: single_object, two_object"
            )
        if self.file is not None:
            return self._of_file(self.file)
        if drawable.objects is not None and "position" in self.tags:
            raise UserError(
                f"benchmark.tags position is the protocol pairs for data.source {config.data.source}; "
                "allowed here: single_object, two_object"
            )
        names = drawable.objects or GENEVAL_CLASSES
        records = []
        for tag in self.tags:
            records += geneval_prompts.generate_records(tag, self.suite, self.prompts, names, self.relations)
        return records

    def _of_file(self, file: Path) -> list[GenevalRecord]:
        """Return the first records of each task of the file.

        Raises UserError for a colour in a task without: whether a run needs a reader of colours is known by its tags.
        """
        read = geneval_metadata.read_metadata(file, self.tags)
        for record in read:
            if record.tag not in COLOR_TAGS and any(clause.color is not None for clause in record.include):
                raise UserError(
                    f"the prompt {record.prompt!r} asks for a colour in the task {record.tag}; "
                    f"allowed in: {', '.join(COLOR_TAGS)}"
                )
        records = []
        for tag in self.tags:
            records += [record for record in read if record.tag == tag and self.asks(record.relations)][: self.prompts]
        return records

    def _prompts(self, config: RunConfig) -> Iterator[AskedPrompt]:
        steers_attributes = ATTRIBUTE in config.data.labels
        for number, record in enumerate(self.records(config)):
            prompt = _prompt(record, steers_attributes)
            label = prompt.triplets[0].relation if record.tag == "position" else record.tag
            yield AskedPrompt(group=record.tag, number=number, prompt=prompt, label=label, record=record)


def _prompt(record: GenevalRecord, steers_attributes: bool) -> Phrases:
    """Return a record's prompt with what a classifier can steer: its relation, or its colours where it knows them."""
    if record.tag == "position":
        return geneval_metadata.position_prompt(record)
    if record.tag in COLOR_TAGS and steers_attributes:
        colored = geneval_metadata.attribute_prompt(record)
        if colored is not None:
            return colored
    names = tuple(clause.name for clause in record.include)
    return SeveralPrompt(text=record.prompt, triplets=(), objects=names, spans=())
