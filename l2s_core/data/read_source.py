"""Sources that are read: a folder with annotations and images, and others beside it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from l2s_core.config import DataConfig
from l2s_core.data.catalogue import Candidate, Catalogue, Entry, Fits, Skips, choose, merge
from l2s_core.data.images import read_image
from l2s_core.data.listing import listing_digest
from l2s_core.data.scenes import Scene
from l2s_core.data.source import Source
from l2s_core.errors import UserError
from l2s_core.relations import ATTRIBUTE, Triplet
from l2s_core.sizes import SQUARE, Size
from l2s_core.storage.files import file_digest


class ReadSource(Source):
    """A folder of images and what is true in them; subclasses know the format of the annotations.

    With `attributes` it also gives as many scenes in which one of them is true of an object, under the relation "is".
    """

    BESIDE: ClassVar[bool] = True
    SCOPE: ClassVar[str] = (
        "Images of the source named in the settings, inverted with the model named there; the prompts of the benchmark "
        "have the form of the protocol named there and are drawn by this project's own seed, unless a file of the "
        "official ones is named, too. So the figures stand beside published ones, and need not be of the same prompts."
    )

    RULES: ClassVar[int] = 2
    """Part of its identity: raise it when its code comes to choose or to show scenes otherwise."""
    OPTIONAL: ClassVar[tuple[str, ...]] = (*DataConfig.OPTIONAL, "attributes", "attribute_quotas", "resize")
    path: Path = Field(description="its folder")
    attributes: tuple[Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+)*$")], ...] = Field(
        default=(), description="words of attributes, e.g. white or metal, one word each"
    )
    attribute_quotas: Literal["pooled", "word"] = Field(
        default="pooled", description="scenes with an attribute: as they come, or as many of every word"
    )
    resize: Literal["crop", "crop-bicubic", "squash", "pad"] = Field(
        default="crop",
        description="how images come to the model's size: the largest centred part of its proportions by Lanczos' "
        "filter, or cut out and by a bicubic one, or all of the image squashed by a bicubic one, or with white beside "
        "it",
    )

    @abstractmethod
    def annotation_files(self) -> list[Path]:
        """Return the files of annotations in `path`; raises UserError when there are none."""

    @abstractmethod
    def image_names(self) -> Iterable[str]:
        """Return the names of its images, relative to `path`, whether or not they are there."""

    @abstractmethod
    def candidates(self, skips: Skips) -> Iterator[Candidate]:
        """Yield every usable triplet; what cannot be used is counted in `skips`."""

    def candidates_for(self, size: Size, skips: Skips) -> Iterator[Candidate]:
        """Yield those whose objects are seen in images of a size, where annotations tell."""
        return self.candidates(skips)

    @property
    def chosen(self) -> tuple[str, ...]:
        return (*self.relations, ATTRIBUTE) if self.attributes else self.relations

    def quotas(self, count: int) -> dict[str, int]:
        if self.attribute_quotas == "pooled" or not self.attributes:
            return super().quotas(count)
        words = {f"{ATTRIBUTE} {word}": count // len(self.attributes) for word in self.attributes}
        return {**dict.fromkeys(self.relations, count), **words}

    def quota_of(self, triplet: Triplet, *, diagonal: bool = False) -> str:
        by_word = self.attribute_quotas == "word" and triplet.relation == ATTRIBUTE
        return f"{ATTRIBUTE} {triplet.subject}" if by_word else super().quota_of(triplet, diagonal=diagonal)

    @property
    def own_attributes(self) -> tuple[str, ...]:
        return self.attributes

    def catalogue(self, fits: Fits) -> Catalogue:
        return self.catalogue_for(SQUARE, fits)

    def catalogue_for(self, size: Size, fits: Fits) -> Catalogue:
        catalogues = [part._catalogue(size, fits) for part in self._read_parts]
        return merge(catalogues) if self.beside else catalogues[0]

    def _catalogue(self, size: Size, fits: Fits) -> Catalogue:
        """Return the scenes of this source alone."""
        skips = Skips()
        return choose(self, self.candidates_for(size, skips), skips, fits, origin=self.path)

    def load_entries(self, entries: Sequence[Entry], size: Size) -> tuple[list[Scene], Skips]:
        scenes = []
        skips = Skips()
        for entry in entries:
            if entry.triplet is None:
                raise ValueError(f"the entry {entry.image_id!r} of a source that is read has no triplet")
            try:
                part = self._read_parts[entry.part]
                image = read_image(part.path / entry.image, size, resize=part.resize)
            except UserError as error:
                skips.add(entry.image, str(error))
                continue
            scenes.append(
                Scene(image_id=entry.image_id, split=entry.split, image=image, triplet=entry.triplet, also=entry.also)
            )
        return scenes, skips

    def fingerprint(self) -> list[str]:
        """Return the digests of every part's annotation files, and of the listings of their images."""
        annotations = [file_digest(path) for part in self._read_parts for path in part._files()]
        return annotations + [listing_digest(part.path, part.image_names()) for part in self._read_parts]

    def check(self) -> str:
        """Return the annotation files of every part, or its folder where images alone say what is true."""
        return ", ".join(str(path) for part in self._read_parts for path in part._files() or [part.path])

    def identity(self) -> dict[str, Any]:
        """Return the settings of all parts, without the places where they lie."""
        own = self.model_dump(mode="json", exclude={"path", "beside"})
        return {**own, "rules": self.RULES, "beside": [part.identity() for part in self._read_parts[1:]]}

    @property
    def _read_parts(self) -> tuple[ReadSource, ...]:
        return (self, *(_read(part) for part in self.beside))

    def _files(self) -> list[Path]:
        """Return the annotation files of this source alone; raises UserError where its folder is not there."""
        if not self.path.is_dir():
            raise UserError(f"data.path {self.path} is not a folder; give the one that holds the {self.source} data")
        return self.annotation_files()


def _read(config: DataConfig) -> ReadSource:
    if not isinstance(config, ReadSource):
        raise TypeError(f"a source in data.beside is a ReadSource, not {type(config).__name__}")
    return config
