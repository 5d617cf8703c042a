"""Which scenes the classifier learns from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from l2s_core.config.base import Section
from l2s_core.config.chosen import chosen_by
from l2s_core.registry import SOURCES
from l2s_core.relations import LABELS, RELATIONS, Relation


class DataConfig(Section):
    """What every source of scenes says; `source` names the class, of the table SOURCES, that has further settings.

    Counts are per relation. `beside` adds further sources that are read, each with its own counts.
    """

    source: str
    seed: int = 0
    train: int = Field(ge=1)
    val: int = Field(ge=1)
    test: int = Field(ge=1)
    relations: tuple[Relation, ...] = Field(
        default=RELATIONS, min_length=1, description="those that scenes are chosen for"
    )
    beside: tuple[Annotated[DataConfig, chosen_by("source", SOURCES)], ...] = ()

    @property
    def chosen(self) -> tuple[str, ...]:
        """What this source's scenes are chosen for: its relations, and "is" where it has attributes."""
        return self.relations

    @property
    def own_attributes(self) -> tuple[str, ...]:
        """The words of attributes that this source's scenes have."""
        return ()

    @property
    def stated(self) -> tuple[Relation, ...]:
        """The spatial relations of every source of the run."""
        return tuple(name for name in RELATIONS if any(name in part.relations for part in self.parts))

    @property
    def labels(self) -> tuple[str, ...]:
        """What a classifier of this data tells apart."""
        return LABELS if self.attribute_words else RELATIONS

    @property
    def attribute_words(self) -> tuple[str, ...]:
        """The attributes of every source of the run."""
        return tuple(dict.fromkeys(word for part in self.parts for word in part.own_attributes))

    @property
    def parts(self) -> tuple[DataConfig, ...]:
        """Every source of the run, this one first."""
        return (self, *self.beside)
