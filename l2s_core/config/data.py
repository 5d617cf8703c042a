"""Which scenes the classifier learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from l2s_core.config.base import Section
from l2s_core.relations import ATTRIBUTE, LABELS, RELATIONS

Relation = Literal[RELATIONS]


class DataConfig(Section):
    """Scenes the classifier learns from; counts are per relation.

    `miniworld` renders them; the others read `path`: GQA's scene graphs, ORM's answered images, or a folder
    with scenes.jsonl. `beside` adds further sources that are read, each with its own counts. With `attributes`, a
    source also gives as many scenes in which one of them is true of an object, under the relation "is".
    """

    OPTIONAL = ("attributes",)
    source: Literal["miniworld", "gqa", "orm", "jsonl"]
    path: Path | None = Field(default=None, description="folder of a source that is read")
    is_a: str = Field(default="none", description="WordNet lexicon that tells is-a pairs (gqa), e.g. oewn:2024")
    seed: int = 0
    train: int = Field(ge=1)
    val: int = Field(ge=1)
    test: int = Field(ge=1)
    held_out_objects: tuple[str, ...] = Field(default=(), description="objects the classifier never meets (miniworld)")
    held_out_pairs: float = Field(
        default=0.3, ge=0, lt=1, description="share of the other pairs that it never meets (miniworld)"
    )
    relations: tuple[Relation, ...] = Field(
        default=RELATIONS, min_length=1, description="those that scenes are chosen for"
    )
    attributes: tuple[Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+)*$")], ...] = Field(
        default=(), description="words of attributes, e.g. white or metal, one word each (gqa, orm, jsonl)"
    )
    beside: tuple[DataConfig, ...] = ()

    @property
    def chosen(self) -> tuple[str, ...]:
        """What this source's scenes are chosen for: its relations, and "is" where it has attributes."""
        return (*self.relations, ATTRIBUTE) if self.attributes else self.relations

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
        return tuple(dict.fromkeys(word for part in self.parts for word in part.attributes))

    @property
    def parts(self) -> tuple[DataConfig, ...]:
        """Every source of the run, this one first."""
        return (self, *self.beside)

    @model_validator(mode="after")
    def _beside_fits(self) -> DataConfig:
        if self.beside and "miniworld" in (part.source for part in self.parts):
            raise ValueError("beside mixes sources that are read (gqa, orm, jsonl); miniworld stands alone")
        if any(part.beside for part in self.beside):
            raise ValueError("a source in beside has no beside of its own; list them all in one")
        return self

    @model_validator(mode="after")
    def _attributes_fit(self) -> DataConfig:
        if self.attributes and self.source == "miniworld":
            raise ValueError(
                "attributes are for sources that are read (gqa, orm, jsonl); the small world's objects have their own; leave them out"
            )
        return self

    @model_validator(mode="after")
    def _path_fits(self) -> DataConfig:
        if (self.path is None) != (self.source == "miniworld"):
            wants = "needs no path" if self.source == "miniworld" else "needs data.path, the folder that holds it"
            raise ValueError(f"source {self.source} {wants}")
        return self
