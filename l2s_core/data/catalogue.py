"""Which scenes a run uses: chosen from a source's candidates, by image, the same every time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from l2s_core.config import DataConfig
from l2s_core.data.scenes import SPLITS
from l2s_core.errors import UserError
from l2s_core.hashing import stable_fraction
from l2s_core.relations import Triplet
from l2s_core.storage.sealed import REBUILD
from l2s_core.storage.versioned import read_versioned, write_versioned

FORMAT = 1  # of catalogue.json
NAMED_SKIPS = 20  # skipped entries that are named; the rest are counted
ONE_NAME = "subject and object must be two names"
Fits = Callable[[Triplet], bool]
"""triplet -> whether the backbone's text window holds both of its phrases."""
Quotas = dict[tuple[str, str], int]
"""(split, kind of `DataConfig.quotas`) -> number of scenes."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An image file, relative to the source's folder, and a triplet that is true in it; `also` is as in `Scene`."""

    image: str
    triplet: Triplet
    also: tuple[Triplet, ...] = ()


def names_two(triplet: Triplet) -> bool:
    """Whether subject and object have names, and different ones: "Dog" and "dog" cannot be told apart."""
    subject, object_ = (name.strip().casefold() for name in (triplet.subject, triplet.object))
    return bool(subject and object_) and subject != object_


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A chosen scene: its image's file and what is true in it, both empty where it is rendered.

    `also` is as in `Scene`, `part` the number, among the run's sources, of the one it is from.
    """

    image_id: str
    split: str
    image: str = ""
    triplet: Triplet | None = None
    also: tuple[Triplet, ...] = ()
    part: int = 0


@dataclass(kw_only=True)
class Skips:
    """Entries of a source that cannot be used: counted by reason, the first ones named."""

    counts: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)

    def add(self, what: str, reason: str) -> None:
        self.counts[reason] += 1
        if len(self.named) < NAMED_SKIPS:
            self.named.append(f"{what}: {reason}")


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The scenes of a run in order, what was skipped, and what the source was short of."""

    entries: list[Entry]
    skipped: dict[str, int] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)
    short: dict[str, int] = field(default_factory=dict)


def choose(config: DataConfig, candidates: Iterable[Candidate], skips: Skips, fits: Fits, *, origin: Path) -> Catalogue:
    """Return `train`, `val` and `test` scenes per relation, "is" included, split by image, one relation an image first.

    Images come in the order of a hash of their name and the seed, so a subset is the same on every machine,
    whatever order the source lists them in. An image goes to the split and relation that lack most; only
    when every image has been asked once do images give a second relation, inside their split. A triplet that does not
    fit gives way to the next and is counted in `skips`. Raises UserError, naming `origin`, where a split has not a
    single scene of a relation.
    """
    choice = _Choice(config, candidates, skips, fits)
    images = sorted(choice.by_image, key=lambda image: (stable_fraction("image", config.seed, image), image))
    for image in images:
        choice.ask(image)
    for image in images:
        if image in choice.split_of:
            choice.ask(image)
    empty = [f"{split} {kind}" for split, kind in choice.empty]
    if empty:
        raise UserError(
            f"{origin} has no usable scene for {', '.join(empty)} "
            f"({len(images)} usable images; {_counts(skips)}); "
            "lower data.train, data.val and data.test, or give more data"
        )
    short = {f"{split} {kind}": count for (split, kind), count in choice.missing.items() if count}
    entries = _shuffled(choice.entries)
    return Catalogue(entries=entries, skipped=dict(skips.counts), named=skips.named, short=short)


class _Choice:
    """The scenes chosen so far, and what is missing of each quota."""

    def __init__(self, config: DataConfig, candidates: Iterable[Candidate], skips: Skips, fits: Fits) -> None:
        self.config = config
        self.skips = skips
        self.fits = fits
        self.by_image: dict[str, set[Candidate]] = defaultdict(set)
        for candidate in candidates:
            if candidate.triplet.relation not in config.chosen:
                continue
            if names_two(candidate.triplet):
                self.by_image[candidate.image].add(candidate)
            else:
                skips.add(candidate.image, ONE_NAME)
        self.wanted: Quotas = {
            (split, kind): count
            for split in SPLITS
            for kind, count in config.quotas(getattr(config, split)).items()
            if count
        }
        self.missing = dict(self.wanted)
        self.entries: list[Entry] = []
        self.split_of: dict[str, str] = {}
        self.given: dict[str, set[str]] = defaultdict(set)  # relations that an image has given

    @property
    def empty(self) -> list[tuple[str, str]]:
        """The quotas of which there is not a single scene."""
        return [quota for quota, count in self.missing.items() if count == self.wanted[quota]]

    def ask(self, image: str) -> None:
        """Take one more scene of an image, if it has one that is missing."""
        if not any(self.missing.values()):
            return
        pick = self._pick(image)
        if pick is None:
            return
        split, chosen = pick
        relation = chosen.triplet.relation
        self.missing[split, _kind(self.config, chosen)] -= 1
        self.split_of[image] = split
        self.given[image].add(relation)
        image_id = f"{split}-{relation.replace(' ', '_')}-{image}"
        self.entries.append(
            Entry(image_id=image_id, split=split, image=image, triplet=chosen.triplet, also=chosen.also)
        )

    def _pick(self, image: str) -> tuple[str, Candidate] | None:
        """Return the split and candidate that an image gives next; those that do not fit are dropped on the way."""
        candidates = sorted(
            (one for one in self.by_image[image] if one.triplet.relation not in self.given[image]),
            key=lambda one: (_rank(self.config, one), [other.relation for other in one.also]),
        )
        while True:
            pick = _neediest(self.config, candidates, self.missing, self.wanted, self.split_of.get(image))
            if pick is None or self.fits(pick[1].triplet):
                return pick
            self.skips.add(image, "a phrase is cut off by the backbone's text window")
            candidates.remove(pick[1])
            self.by_image[image].remove(pick[1])


def merge(catalogues: Sequence[Catalogue]) -> Catalogue:
    """Return one catalogue of several sources' scenes; the number of its source becomes part of a scene's id."""
    entries = [
        replace(entry, image_id=f"{entry.image_id}@{part}", part=part)
        for part, catalogue in enumerate(catalogues)
        for entry in catalogue.entries
    ]
    skipped: Counter[str] = Counter()
    short: Counter[str] = Counter()
    named = []
    for catalogue in catalogues:
        skipped.update(catalogue.skipped)
        short.update(catalogue.short)
        named += catalogue.named
    return Catalogue(entries=_shuffled(entries), skipped=dict(skipped), named=named, short=dict(short))


def _shuffled(entries: list[Entry]) -> list[Entry]:
    """Order by split, and inside a split by a hash."""
    return sorted(entries, key=lambda e: (SPLITS.index(e.split), stable_fraction("entry", e.image_id), e.image_id))


def _rank(config: DataConfig, candidate: Candidate) -> float:
    triplet = candidate.triplet
    return stable_fraction("triplet", config.seed, candidate.image, triplet.subject, triplet.relation, triplet.object)


def _kind(config: DataConfig, candidate: Candidate) -> str:
    return config.quota_of(candidate.triplet, diagonal=bool(candidate.also))


def _neediest(
    config: DataConfig, candidates: Sequence[Candidate], missing: Quotas, wanted: Quotas, split: str | None
) -> tuple[str, Candidate] | None:
    """Return the (split, candidate) whose quota is filled least; `split` fixes the split."""
    kinds = [_kind(config, candidate) for candidate in candidates]
    options = [
        (-missing[s, kind] / wanted[s, kind], SPLITS.index(s), i)
        for i, kind in enumerate(kinds)
        for s in (SPLITS if split is None else (split,))
        if missing.get((s, kind))
    ]
    if not options:
        return None
    _, s, i = min(options)
    return SPLITS[s], candidates[i]


def _counts(skips: Skips) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(skips.counts.items())) or "none skipped"


def save_catalogue(path: Path, catalogue: Catalogue) -> None:
    """Write a catalogue atomically."""
    write_versioned(path, FORMAT, asdict(catalogue))


def load_catalogue(path: Path) -> Catalogue:
    """Read a catalogue; raises UserError when it is missing or damaged."""
    return read_versioned(path, FORMAT, _catalogue, what="catalogue of scenes", remedy=REBUILD)


def _catalogue(stored: Mapping[str, Any]) -> Catalogue:
    entries = [_entry(row) for row in stored["entries"]]
    return Catalogue(entries=entries, skipped=stored["skipped"], named=stored["named"], short=stored["short"])


def _entry(row: dict[str, Any]) -> Entry:
    triplet = Triplet(**row["triplet"]) if row["triplet"] else None
    also = tuple(Triplet(**other) for other in row.get("also", ()))
    return Entry(**{**row, "triplet": triplet, "also": also})
