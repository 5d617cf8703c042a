"""Which scenes the classifier learns from."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from l2s_core.config.base import MAX_COUNT, Section
from l2s_core.config.chosen import chosen_by
from l2s_core.registry import SOURCES
from l2s_core.relations import ATTRIBUTE, LABELS, PLANAR, RELATIONS, Relation, Triplet, Wording


class DataConfig(Section):
    """What every source of scenes says; `source` names the class, of the table SOURCES, that has further settings.

    Counts are per relation. `beside` adds further sources that are read, each with its own counts;
    `wording` and `wrong` are those of the first for all.
    """

    OPTIONAL: ClassVar[tuple[str, ...]] = ("wording", "wrong")
    source: str
    seed: int = 0
    train: int = Field(ge=1, le=MAX_COUNT)
    val: int = Field(ge=1, le=MAX_COUNT)
    test: int = Field(ge=1, le=MAX_COUNT)
    relations: tuple[Relation, ...] = Field(
        default=PLANAR,
        min_length=1,
        description="those that scenes are chosen for, and a classifier knows",
    )
    wording: Wording = Field(
        default=Wording.PLAIN,
        description="of scenes' prompts: a dog above an apple, or the paper's A dog above a apple",
    )
    wrong: Literal["spatial", "any"] = Field(
        default="spatial", description="what wrong prompts state: another relation, or another label, is included"
    )
    beside: tuple[Annotated[DataConfig, chosen_by("source", SOURCES)], ...] = ()

    @property
    def chosen(self) -> tuple[str, ...]:
        """What this source's scenes are chosen for: its relations, and "is" where it has attributes."""
        return self.relations

    def quotas(self, count: int) -> dict[str, int]:
        """Return the number of scenes of each kind, `count` of each label."""
        return dict.fromkeys(self.chosen, count)

    def quota_of(self, triplet: Triplet, *, diagonal: bool = False) -> str:
        """Return which of the kinds of `quotas` a triplet counts for, and one whose pair stands diagonally."""
        return triplet.relation

    @property
    def own_attributes(self) -> tuple[str, ...]:
        """The words of attributes that this source's scenes have."""
        return ()

    @property
    def stated(self) -> tuple[Relation, ...]:
        """The spatial relations of every source of the run."""
        return tuple(name for name in RELATIONS if any(name in part.relations for part in self.parts))

    @property
    def shown(self) -> tuple[Relation, ...]:
        """Those of them that boxes show."""
        return tuple(name for name in self.stated if name in PLANAR)

    @property
    def labels(self) -> tuple[str, ...]:
        """What a classifier of this data tells apart."""
        known = {*self.stated, ATTRIBUTE} if self.attribute_words else set(self.stated)
        return tuple(name for name in LABELS if name in known)

    @property
    def wrongly_stated(self) -> tuple[str, ...]:
        """What wrong prompts state: a relation that the data has, so that its word alone gives nothing away."""
        if self.wrong == "any":
            return self.labels
        return self.stated if len(self.stated) > 1 else PLANAR

    @property
    def states_diagonals(self) -> bool:
        """Whether pairs may show two relations, and prompts state them; else such pairs are left out."""
        return False

    @property
    def pairs_a_scene(self) -> float:
        """The mean number of pairs of objects that a scene's prompts relate."""
        return 1.0

    @property
    def attribute_words(self) -> tuple[str, ...]:
        """The attributes of every source of the run."""
        return tuple(dict.fromkeys(word for part in self.parts for word in part.own_attributes))

    @property
    def parts(self) -> tuple[DataConfig, ...]:
        """Every source of the run, this one first."""
        return (self, *self.beside)
