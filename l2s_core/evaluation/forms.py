"""Forms of prompts: how many objects they name, and how many relations of them they state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.prompts.prompt import Phrases

WORDS = {"2+1": "one relation", "2+2": "a diagonal"}


@dataclass(frozen=True, order=True)
class Form:
    """`relations` that are stated of `objects`; more relations of two objects than one are a diagonal."""

    relations: int
    objects: int

    @classmethod
    def of(cls, prompt: Phrases) -> Form:
        """The form of a prompt; what it states twice counts once."""
        return cls(relations=len(set(prompt.triplets)), objects=len(prompt.objects))

    @property
    def name(self) -> str:
        """The form as `benchmark.forms` has it."""
        return f"{self.objects}+{self.relations}"

    @property
    def words(self) -> str:
        """The form as reports call it."""
        return WORDS.get(self.name, f"{self.objects} objects, {self.relations} relations")


def items_by_form(items: Sequence[EvalItem]) -> dict[Form, list[int]]:
    """Return the places of the items of every form that states a relation, fewer relations and objects first."""
    places: dict[Form, list[int]] = {}
    for place, item in enumerate(items):
        form = Form.of(item.prompt)
        if form.relations:
            places.setdefault(form, []).append(place)
    return dict(sorted(places.items()))
