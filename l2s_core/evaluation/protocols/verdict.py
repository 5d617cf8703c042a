"""A verdict on an image: what is wrong in it, and whether each relation of its prompt holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from l2s_core.relations import Triplet

CORRECT = "correct"  # the reason of an image in which nothing is wrong


class FailureKind(StrEnum):
    """What can be wrong; an image with several failures is counted under the first in this order."""

    MISSING = "object missing"
    SURPLUS = "too many objects"
    WRONG_RELATION = "wrong relation"
    NO_RELATION = "in no relation"
    WRONG_COLOR = "wrong colour"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One thing that is wrong.

    `objects` are the objects concerned: of a relation its subject and its object. `asked` is the relation or colour
    that was asked for, `there` what is there instead: colours or relations, None for a relation that was not looked
    at since its object does not hold. Where objects are counted, `count` is how many were asked for, or are too many,
    and `found` how many there are. `score` is what a protocol with a soft score gives the relation, below 1.
    """

    kind: FailureKind
    objects: tuple[str, ...]
    asked: str = ""
    there: tuple[str, ...] | None = None
    count: int | None = None
    found: int | None = None
    score: float | None = None

    def sentence(self, *, named: bool = True) -> str:
        """Return what is wrong, in words; without `named`, a relation's objects are left out."""
        match self.kind:
            case FailureKind.MISSING if self.count is None:
                return f"not found: {', '.join(self.objects)}"
            case FailureKind.MISSING:
                return f"found {self.found} of {self.count} {self.objects[0]}"
            case FailureKind.SURPLUS:
                return f"found {self.found} {self.objects[0]}, fewer than {self.count} allowed"
            case FailureKind.WRONG_COLOR:
                every = "all " if self.count is not None and self.count > 1 else ""
                return f"{self.objects[0]} looks {' and '.join(self.there or ())}, not {every}{self.asked}"
            case FailureKind.WRONG_RELATION | FailureKind.NO_RELATION:
                return self._misplaced(named)

    def _misplaced(self, named: bool) -> str:
        subject, object_ = self.objects
        if self.score is not None:
            return f"position scores {self.score:.2f} for {self.asked}"
        if self.there is None:
            return f"no {object_} for the {subject} to be {self.asked}"
        text = f"is {' and '.join(self.there) or 'in no relation'}, not {self.asked}"
        return f"{subject} {text} {object_}" if named else text

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of a failure, without what it does not state."""
        return {key: value for key, value in asdict(self).items() if value is not None and value != ""}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Failure:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        listed = {key: tuple(value[key]) for key in ("objects", "there") if key in value}
        return cls(**{**value, **listed, "kind": FailureKind(value["kind"])})


def misplaced(triplet: Triplet, there: frozenset[str] | set[str]) -> Failure:
    """Return the failure of a relation between two objects that stand in other relations, or in none."""
    return Failure(
        kind=FailureKind.WRONG_RELATION if there else FailureKind.NO_RELATION,
        objects=(triplet.subject, triplet.object),
        asked=triplet.relation,
        there=tuple(sorted(there)),
    )


@dataclass(frozen=True, kw_only=True)
class RelationVerdict:
    """Whether one relation holds between its own two objects, and else why not."""

    triplet: Triplet
    failure: Failure | None = None

    @property
    def holds(self) -> bool:
        """Whether the relation holds."""
        return self.failure is None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of a relation."""
        return {**asdict(self.triplet), "failure": None if self.failure is None else self.failure.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RelationVerdict:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        words = {key: value[key] for key in ("subject", "relation", "object")}
        failure = value["failure"]
        return cls(triplet=Triplet(**words), failure=None if failure is None else Failure.from_json(failure))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is wrong in an image, nothing if it shows what its prompt asks for.

    `relations` are those of the prompt, in its order, where the protocol judges each by itself; `score` in [0, 1] is
    that of a protocol with a soft one. `lenient` is the verdict on a prompt of several relations by the rule of
    Learn-to-Steer's public scorer, which lets a relation hold between the objects of an earlier one instead of its own.
    """

    failures: tuple[Failure, ...] = ()
    relations: tuple[RelationVerdict, ...] = ()
    score: float | None = None
    lenient: bool | None = None

    @property
    def correct(self) -> bool:
        """Whether the image shows all that its prompt asks for."""
        return not self.failures

    @property
    def all_found(self) -> bool:
        """Whether every object was found, as often as asked."""
        return all(failure.kind is not FailureKind.MISSING for failure in self.failures)

    @property
    def reason(self) -> str:
        """What is wrong, in words; a relation that is the only one of its prompt is said without its objects."""
        named = len(self.relations) != 1
        return "; ".join(failure.sentence(named=named) for failure in self.failures) or CORRECT
