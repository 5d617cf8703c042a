"""Prompts, seeds, and who judges."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from l2s_core.config.base import MAX_COUNT, Section
from l2s_core.config.data import Relation
from l2s_core.relations import ATTRIBUTE, PLANAR

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]


class BenchmarkConfig(Section):
    """What every benchmark says; `protocol` names the class, of the table PROTOCOLS, that has further settings.

    Protocols draw their own prompts by seed, half of them for choices (`dev`) and half for reports (`test`), or read
    the official ones from `file`.
    """

    OPTIONAL: ClassVar[tuple[str, ...]] = ("relations",)
    protocol: str = "pairs"
    suite: Literal["test", "dev"] = "test"
    file: Path | None = Field(
        default=None, description="GenEval's metadata, T2I-CompBench's prompts or a jsonl of several relations"
    )
    prompts: Count = Field(description="number of prompts of each kind")
    seeds: Count = 1
    judge: str = "mini-seg"
    clip: str | None = Field(
        default=None, description="a CLIPModel that scores images against their prompts (CLIPScore) and tells colours"
    )
    min_score: float = Field(
        default=0.3, ge=0, le=1, description="confidence of a find (pairs, several); the other protocols have their own"
    )

    relations: tuple[Relation, ...] = Field(
        default=PLANAR, min_length=1, description="those that prompts ask for; prompts of others are left out"
    )

    @property
    def asks_for_colors(self) -> bool:
        """Whether its prompts ask for colours, which `clip` then tells."""
        return False

    @property
    def depth_model(self) -> str | None:
        """The model that tells how near finds are, where its prompts ask for that."""
        return None

    @property
    def asked_relations(self) -> tuple[Relation, ...]:
        """The relations that its prompts ask for."""
        return self.relations

    def asks(self, stated: Iterable[str | None]) -> bool:
        """Whether what a prompt states is asked for: relations among `relations`, attributes, or none (None)."""
        return all(relation in (None, ATTRIBUTE, *self.relations) for relation in stated)
