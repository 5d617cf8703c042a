"""What a benchmark protocol is: its settings, the images that it asks for, and how it judges them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import model_validator

from l2s_core.config import BenchmarkConfig, RunConfig
from l2s_core.evaluation.detectors.detection import Box, Detection
from l2s_core.evaluation.protocols.classes import geneval_name
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.relation_rule import judge_relations
from l2s_core.evaluation.protocols.suites import noise_seed
from l2s_core.evaluation.protocols.verdict import Verdict
from l2s_core.prompts.prompt import Phrases
from l2s_core.relations import PLANAR

NamedBox = tuple[str, Box]
"""A box and the class of what is in it, in the protocol's name."""


@dataclass(frozen=True, kw_only=True)
class AskedPrompt:
    """A prompt of a suite: its kind (`group`), its number among those of its kind, and what `EvalItem` has of it."""

    group: str
    number: int
    prompt: Phrases
    label: str
    record: Any = None


class Protocol(BenchmarkConfig, ABC):
    """Base of every protocol: a subclass has its settings as fields and says in `items` which images it asks for.

    Unless a subclass says otherwise, an image is judged by GenEval's rule for every relation of its prompt, with finds
    above `min_score`, and names of objects are GenEval's classes.
    """

    GROUP_NAMES: ClassVar[Mapping[str, str]] = {}
    """How reports call the kinds of prompts, where their own names do not say it."""
    RULE: ClassVar[str] = "GenEval"
    """Whose rule tells whether an image is right."""
    DEV_BENCHMARK: ClassVar[str | None] = None
    """File of configs/benchmarks with the size of its development suite; without one, that is the run's own size."""

    @property
    def judged_relations(self) -> tuple[str, ...]:
        """The relations that its rule can tell; GenEval's goes by boxes, which show none of depth."""
        return PLANAR

    @model_validator(mode="after")
    def _asks_what_it_judges(self) -> Protocol:
        unknown = [name for name in self.asked_relations if name not in self.judged_relations]
        if unknown:
            raise ValueError(
                f"relations asks for {unknown[0]}, which the rule of {self.protocol} cannot tell; "
                f"allowed: {', '.join(self.judged_relations)}; "
                "protocol spatial with a model of depth (depth: FOLDER) tells in front of and behind"
            )
        return self

    @abstractmethod
    def items(self, config: RunConfig) -> list[EvalItem]:
        """Return the images to make of a run, each prompt `seeds` times.

        The suites `dev` and `test` share neither prompts nor noise. Raises UserError where the run's models cannot draw
        what the prompts name.
        """

    def verdict(
        self,
        item: EvalItem,
        detections: Sequence[Detection],
        size: tuple[int, int],
        colors: Mapping[NamedBox, str],
    ) -> Verdict:
        """Judge an image of `size` (width, height) pixels; `colors` are those of the boxes of `colored_boxes`."""
        return judge_relations(item.prompt, detections, self.min_score)

    def class_of(self, name: str) -> str:
        """Return the class that an object's or a find's name is taken for."""
        return geneval_name(name)

    def least_score(self, item: EvalItem) -> float:
        """Return the confidence above which a find takes part in the verdict on an item."""
        return self.min_score

    def colored_boxes(self, item: EvalItem, detections: Sequence[Detection]) -> list[NamedBox]:
        """Return the boxes whose colour the verdict on an item depends on."""
        return []

    @property
    def is_papers_task(self) -> bool:
        """Whether its prompts have the form of the task that the paper reports, GenEval's position."""
        return False

    def finds(self, item: EvalItem, detections: Sequence[Detection]) -> list[Detection]:
        """Return the finds that take part in the verdict, those of an object asked for by the prompt's name of it."""
        asked = {self.class_of(name): name for name in item.objects}
        least = self.least_score(item)
        return [replace(d, name=asked.get(self.class_of(d.name), d.name)) for d in detections if d.score > least]

    def numbered_items(self, prompts: Iterable[AskedPrompt]) -> list[EvalItem]:
        """Return the items of prompts, `seeds` of each; an id names protocol, suite, kind, number and seed."""
        origin = "file" if self.file else self.suite
        items = []
        for asked in prompts:
            for k in range(self.seeds):
                item_id = f"{self.protocol}-{origin}-{asked.group}-{asked.number:03d}-{k}"
                items.append(
                    EvalItem(
                        item_id=item_id,
                        prompt_group=asked.group,
                        prompt=asked.prompt,
                        seed=noise_seed(item_id, asked.prompt.text),
                        record=asked.record,
                        label=asked.label,
                    )
                )
        return items


def protocol_of(config: RunConfig) -> Protocol:
    """Return the protocol of a run; raises TypeError for a benchmark that was not read as one."""
    if not isinstance(config.benchmark, Protocol):
        raise TypeError(f"a run's benchmark is a Protocol, not {type(config.benchmark).__name__}")
    return config.benchmark


def benchmark_items(config: RunConfig) -> list[EvalItem]:
    """Return the images that a run's benchmark asks for; raises UserError as `Protocol.items` does."""
    return protocol_of(config).items(config)
