"""What a source of scenes is: its settings, the scenes it gives, and what follows from it for the rest of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import model_validator

from l2s_core.config import DataConfig
from l2s_core.data.catalogue import Catalogue, Entry, Fits, Skips
from l2s_core.data.scenes import Scene
from l2s_core.prompts.prompt import Phrases
from l2s_core.relations import Wording
from l2s_core.sizes import Size

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Drawable:
    """What a prompt may name: one of `objects` (None: anything), `unseen` by the classifier or not.

    `attributes` says whether a prompt may ask for them.
    """

    objects: tuple[str, ...] | None = None
    unseen: tuple[str, ...] = ()
    attributes: bool = True


class Source(DataConfig, ABC):
    """Base of every source: a subclass has its settings as fields and says in its methods which scenes it gives."""

    BESIDE: ClassVar[bool] = False
    """Whether it mixes with other sources, in `beside`."""
    NEEDS_WINDOW: ClassVar[bool] = True
    """Whether its phrases must be checked against the backbone's text window."""
    REFERENCE_SIDE: ClassVar[int | None] = None
    """Side, pixels, of the square scenes that it renders to hold samples against; None where it renders none."""
    SCOPE: ClassVar[str]
    """What a report says of how far its figures reach."""

    @abstractmethod
    def catalogue(self, fits: Fits) -> Catalogue:
        """Return the scenes that a run uses; raises UserError where there is none for a relation.

        `fits` tells whether the text window holds a triplet; where NEEDS_WINDOW, scenes that do not fit are left out.
        """

    def catalogue_for(self, size: Size, fits: Fits) -> Catalogue:
        """Return the catalogue of a run whose images have a size, where it depends on their proportions."""
        return self.catalogue(fits)

    @abstractmethod
    def load_entries(self, entries: Sequence[Entry], size: Size) -> tuple[list[Scene], Skips]:
        """Return the scenes of entries, images of `size` pixels, and what had to be skipped."""

    def fingerprint(self) -> list[str]:
        """Return digests of the files that scenes are made from; raises UserError where one is missing."""
        return []

    def check(self) -> str:
        """Return what `l2s doctor` says of it; raises UserError for what is missing."""
        return "nothing to read"

    def identity(self) -> dict[str, Any]:
        """Return the settings that scenes depend on, JSON-able."""
        return self.model_dump(mode="json")

    @property
    def drawable(self) -> Drawable:
        """What the models that belong to it can draw."""
        return Drawable()

    def pair_groups(self) -> Mapping[str, Sequence[Pair]]:
        """Return the object pairs of prompts, by what the classifier met of them; none where any may be asked for."""
        return {}

    def can_show(self, prompt: Phrases) -> bool:
        """Whether `references` can render a prompt."""
        return False

    def references(self, prompts: Sequence[Phrases], count: int, *, first: int = 0) -> np.ndarray:
        """Return uint8 scenes (count, side, side, 3) of the prompts in turn, from number `first` on."""
        raise NotImplementedError(f"{type(self).__name__} renders no reference scenes")

    @model_validator(mode="after")
    def _beside_fits(self) -> Source:
        alone = [part.source for part in self.parts if not source_of(part).BESIDE]
        if self.beside and alone:
            raise ValueError(f"beside mixes sources that are read from a folder; {alone[0]} stands alone")
        if any(part.beside for part in self.beside):
            raise ValueError("a source in beside has no beside of its own; list them all in one")
        written = (self.wording, self.wrong)
        if any((part.wording, part.wrong) not in (written, (Wording.PLAIN, "spatial")) for part in self.beside):
            raise ValueError("wording and wrong of the first source are those of all; leave them out in beside")
        return self


def source_of(config: DataConfig) -> Source:
    """Return a section of data as its source; raises TypeError for one that was not read as one."""
    if not isinstance(config, Source):
        raise TypeError(f"a run's data is a Source, not {type(config).__name__}")
    return config
