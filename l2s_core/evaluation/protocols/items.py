"""The small world's prompts and seeds: two objects, four relations, three kinds of object pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from l2s_core.config import BenchmarkConfig
from l2s_core.errors import UserError
from l2s_core.evaluation.protocols.compbench import SpatialPrompt
from l2s_core.evaluation.protocols.geneval import GenevalRecord
from l2s_core.hashing import stable_fraction, stable_seed
from l2s_core.prompts.prompt import PHOTO_PREFIX, Phrases, Triplet, depicted, prompt_for
from l2s_core.relations import RELATIONS


@dataclass(frozen=True, kw_only=True)
class EvalItem:
    """One image to make: its prompt, the seed of its noise, and the kind of prompt it is (`prompt_group`).

    `record` is what another protocol than the relations' own judges the image by, `label` what the prompt asks for in a
    word, where that is not its one relation.
    """

    item_id: str
    prompt_group: str
    prompt: Phrases
    seed: int
    record: GenevalRecord | SpatialPrompt | None = None
    label: str = ""

    @property
    def objects(self) -> tuple[str, ...]:
        """What a judge has to find."""
        return depicted(self.prompt)

    @property
    def asks_for(self) -> str:
        """What the prompt asks for, in a word."""
        return self.label or self.prompt.triplets[0].relation


def pair_items(config: BenchmarkConfig, pairs: Mapping[str, Sequence[tuple[str, str]]]) -> list[EvalItem]:
    """Return the items of a suite: per kind of pair, `prompts` prompts in rotation over the relations, times `seeds`.

    Every (subject, relation, object) belongs to one suite by a hash, and seeds are hashes that include
    the suite, so `dev` and `test` share neither prompts nor noise.
    """
    items = []
    for split in pairs:
        triplets = suite_triplets(config.suite, pairs[split], config.relations)
        prompts = config.prompts if isinstance(config.prompts, int) else config.prompts.get(split, 0)
        if not triplets:
            continue
        if prompts > len(triplets):
            raise UserError(
                f"benchmark.prompts is {prompts}, but the {config.suite} suite has {len(triplets)} prompts with "
                f"{split} pairs; lower benchmark.prompts, raise benchmark.seeds, or hold out more objects"
            )
        for number, triplet in enumerate(triplets[:prompts]):
            for k in range(config.seeds):
                item_id = f"{config.suite}-{split}-{number:03d}-{k}"
                seed = stable_seed("seed", item_id, triplet.subject, triplet.relation, triplet.object)
                items.append(
                    EvalItem(
                        item_id=item_id, prompt_group=split, prompt=prompt_for(triplet, prefix=PHOTO_PREFIX), seed=seed
                    )
                )
    if not items:
        raise UserError("the benchmark has no prompts: no object pairs are left; hold out fewer objects or pairs")
    return items


def suite_triplets(suite: str, pairs: Sequence[tuple[str, str]], relations: Sequence[str] = RELATIONS) -> list[Triplet]:
    """Return the suite's half of all triplets over `pairs`, in rotation over the relations."""
    columns = []
    for relation in relations:
        ordered = [Triplet(subject=a, relation=relation, object=b) for x, y in pairs for a, b in ((x, y), (y, x))]
        ordered.sort(key=lambda t: stable_fraction("suite", t.subject, t.relation, t.object))
        half = len(ordered) // 2
        columns.append(ordered[:half] if suite == "dev" else ordered[half:])
    return [triplet for row in zip(*columns, strict=True) for triplet in row]
