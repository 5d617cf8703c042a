"""Several relations in one prompt (Yiflach et al., arXiv 2509.02295): own prompts in the paper's forms, or a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from l2s_core.config import DataConfig, RunConfig
from l2s_core.data.source import Pair, source_of
from l2s_core.errors import UserError, did_you_mean
from l2s_core.evaluation.protocols import several_prompts
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import AskedPrompt, Protocol
from l2s_core.evaluation.protocols.several_prompts import OBJECT_LISTS
from l2s_core.evaluation.protocols.suites import first_prompts, suite_triplets
from l2s_core.hashing import stable_fraction
from l2s_core.prompts.prompt import PHOTO_PREFIX, SeveralPrompt, prompt_for


class Several(Protocol):
    """Prompts of several relations, `prompts` of each form, over common objects, novel ones, both, or a file's."""

    DEV_BENCHMARK: ClassVar[str | None] = "several-dev"
    GROUP_NAMES: ClassVar[Mapping[str, str]] = {
        "2-1-seen": "one relation, pairs seen in training",
        "2-1-unseen": "one relation, unseen pairs",
        "2-1-novel": "one relation, objects never seen by the classifier",
    }

    protocol: Literal["several"] = "several"
    forms: tuple[Literal["2+1", "2+2", "3+2", "4+2", "4+3", "5+3"], ...] = Field(
        default=("3+2",), min_length=1, description="objects and relations of a prompt; 2+2 is a diagonal"
    )
    objects: Literal["common", "novel", "mixed"] | Path = Field(
        default="common", description="list of objects: one of these, or a text file with a name a line"
    )

    def items(self, config: RunConfig) -> list[EvalItem]:
        return self.numbered_items(self._of_file(self.file) if self.file is not None else self._own(config.data))

    def _of_file(self, file: Path) -> Iterator[AskedPrompt]:
        prompts = several_prompts.read_several(file)
        read = [prompt for prompt in prompts if self.asks(t.relation for t in prompt.triplets)]
        for number, prompt in enumerate(read[: self.prompts]):
            yield AskedPrompt(group="file", number=number, prompt=prompt, label=_label(prompt))

    def _own(self, data: DataConfig) -> Iterator[AskedPrompt]:
        pairs = source_of(data).pair_groups()
        for form in self.forms:
            if form == "2+1" and pairs:
                yield from self._single(pairs, self._names(data))
                continue
            objects, relations = map(int, form.split("+"))
            prompts = several_prompts.generate_several(
                self.suite, (objects, relations), self.prompts, self._names(data), self.relations
            )
            for number, prompt in enumerate(prompts):
                group = f"{objects}-{relations}-{self.objects if self.objects in OBJECT_LISTS else 'listed'}"
                yield AskedPrompt(group=group, number=number, prompt=prompt, label=_label(prompt))

    def _single(self, pairs: Mapping[str, Sequence[Pair]], names: Sequence[str]) -> Iterator[AskedPrompt]:
        """Prompts of one relation in a closed world: those of the protocol `pairs`, of the same suite, by hash."""
        asked = [
            (group, triplet)
            for group, listed in pairs.items()
            for triplet in suite_triplets(self.suite, listed)
            if {triplet.subject, triplet.object} <= set(names) and triplet.relation in self.relations
        ]
        asked.sort(key=lambda one: stable_fraction("several", 2, 1, one[1].subject, one[1].relation, one[1].object))
        chosen = first_prompts(asked, self.prompts, f"the {self.suite} suite of one relation")
        for number, (group, triplet) in enumerate(chosen):
            prompt = prompt_for(triplet, prefix=PHOTO_PREFIX)
            yield AskedPrompt(group=f"2-1-{group}", number=number, prompt=prompt, label=triplet.relation)

    def _names(self, data: DataConfig) -> Sequence[str]:
        """The objects of prompts; in a closed world the novel ones are those that the classifier never met."""
        drawable = source_of(data).drawable
        if isinstance(self.objects, Path):
            if not self.objects.is_file():
                raise UserError(
                    f"benchmark.objects is {str(self.objects)!r};{did_you_mean(self.objects, OBJECT_LISTS)} "
                    f"allowed: {', '.join(OBJECT_LISTS)}, or a text file with a name a line"
                )
            return several_prompts.read_names(self.objects, drawable.objects)
        if drawable.objects is None:
            return OBJECT_LISTS[self.objects]
        lists = {
            "common": [name for name in drawable.objects if name not in drawable.unseen],
            "novel": list(drawable.unseen),
            "mixed": list(drawable.objects),
        }
        return lists[self.objects]


def _label(prompt: SeveralPrompt) -> str:
    return f"{len(prompt.objects)} objects, {len(prompt.triplets)} relations"
