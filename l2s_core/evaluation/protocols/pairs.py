"""Pairs of objects of a closed world, of three kinds: GenEval's position task in the small world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from l2s_core.config import Relation, RunConfig
from l2s_core.config.benchmark import Count
from l2s_core.data.source import source_of
from l2s_core.errors import UserError
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import Protocol
from l2s_core.evaluation.protocols.suites import suite_triplets
from l2s_core.hashing import stable_seed
from l2s_core.prompts.prompt import PHOTO_PREFIX, prompt_for
from l2s_core.relations import PLANAR


class Pairs(Protocol):
    """Prompts of one relation over pairs seen in training, pairs that are not, and objects that are not."""

    GROUP_NAMES: ClassVar[Mapping[str, str]] = {
        "seen": "seen in training",
        "unseen": "unseen pairs",
        "novel": "objects never seen by the classifier",
    }
    DEV_BENCHMARK: ClassVar[str | None] = "dev"

    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    protocol: Literal["pairs"] = "pairs"
    prompts: Count | dict[Literal["seen", "unseen", "novel"], Count] = Field(  # type: ignore[assignment]
        description="a number of each kind of pair, or one number a kind"
    )
    relations: tuple[Relation, ...] = Field(default=PLANAR, min_length=1, description="those that prompts ask for")

    @model_validator(mode="after")
    def _has_no_file(self) -> Pairs:
        if self.file is not None:
            raise ValueError(
                "benchmark.file needs benchmark.protocol geneval, spatial or several, whose prompts it holds"
            )
        return self

    def items(self, config: RunConfig) -> list[EvalItem]:
        pairs = source_of(config.data).pair_groups()
        if not pairs:
            raise UserError(
                f"data.source {config.data.source} has no closed set of object pairs, which benchmark.protocol pairs "
                "asks for; set it to geneval"
            )
        return self.items_of(pairs)

    def items_of(self, pairs: Mapping[str, Sequence[tuple[str, str]]]) -> list[EvalItem]:
        """Return the items of the suite: per kind of pair, `prompts` prompts in rotation over the relations.

        Every (subject, relation, object) belongs to one suite by a hash, and seeds are hashes that include the suite,
        so `dev` and `test` share neither prompts nor noise. Raises UserError for more prompts than there are, and for
        none.
        """
        items = [item for group in pairs for item in self._items_of_group(group, pairs[group])]
        if not items:
            raise UserError("the benchmark has no prompts: no object pairs are left; hold out fewer objects or pairs")
        return items

    def _items_of_group(self, group: str, pairs: Sequence[tuple[str, str]]) -> list[EvalItem]:
        triplets = suite_triplets(self.suite, pairs, self.relations)
        if isinstance(self.prompts, int):
            prompts = self.prompts
        else:
            prompts = {str(kind): count for kind, count in self.prompts.items()}.get(group, 0)
        if triplets and prompts > len(triplets):
            raise UserError(
                f"benchmark.prompts is {prompts}, but the {self.suite} suite has {len(triplets)} prompts with "
                f"{group} pairs; lower benchmark.prompts, raise benchmark.seeds, or hold out more objects"
            )
        items = []
        for number, triplet in enumerate(triplets[:prompts]):
            prompt = prompt_for(triplet, prefix=PHOTO_PREFIX)
            for k in range(self.seeds):
                item_id = f"{self.suite}-{group}-{number:03d}-{k}"
                seed = stable_seed("seed", item_id, triplet.subject, triplet.relation, triplet.object)
                items.append(EvalItem(item_id=item_id, prompt_group=group, prompt=prompt, seed=seed))
        return items
