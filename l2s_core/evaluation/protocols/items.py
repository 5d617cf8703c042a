"""The images that a benchmark asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from l2s_core.prompts.prompt import Phrases, depicted


@dataclass(frozen=True, kw_only=True)
class EvalItem:
    """One image to make: its prompt, the seed of its noise, and the kind of prompt it is (`prompt_group`).

    `record` is what its protocol alone understands and judges the image by, a dataclass with JSON-able values, or None;
    `label` says what the prompt asks for in a word, where that is not its one relation.
    """

    item_id: str
    prompt_group: str
    prompt: Phrases
    seed: int
    record: Any = None
    label: str = ""

    @property
    def objects(self) -> tuple[str, ...]:
        """What a judge has to find."""
        return depicted(self.prompt)

    @property
    def asks_for(self) -> str:
        """What the prompt asks for, in a word; nothing for a prompt without a label and without relations."""
        return self.label or next((triplet.relation for triplet in self.prompt.triplets), "")
