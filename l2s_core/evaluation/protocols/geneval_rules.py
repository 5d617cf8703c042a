"""GenEval's records and its verdict on an image (Ghosh et al. 2023, arXiv 2310.11513)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from l2s_core.evaluation.detectors.detection import Box, Detection
from l2s_core.evaluation.protocols.classes import geneval_name
from l2s_core.evaluation.protocols.protocol import NamedBox
from l2s_core.evaluation.protocols.relation_rule import MIN_SCORE, kept_boxes
from l2s_core.evaluation.protocols.verdict import Failure, FailureKind, Verdict, misplaced
from l2s_core.relations import Triplet, relations_between

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
COLOR_TAGS = ("colors", "color_attr")  # tasks that need a classifier of colours
# The answers of its classifier of colours.
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
COUNTING_SCORE = 0.9  # a detection takes part above this confidence in the counting task, above MIN_SCORE in others


@dataclass(frozen=True, kw_only=True)
class Position:
    """A relation to the objects of an earlier clause: its place in `include`, from 0."""

    relation: str
    index: int


@dataclass(frozen=True, kw_only=True)
class Clause:
    """So many objects of one class, perhaps of a colour, perhaps in a relation to those of another clause."""

    name: str
    count: int = 1
    color: str | None = None
    position: Position | None = None


@dataclass(frozen=True, kw_only=True)
class GenevalRecord:
    """One prompt of GenEval, and what its images must (`include`) and must not (`exclude`) show."""

    tag: str
    prompt: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...] = ()

    @property
    def relations(self) -> tuple[str, ...]:
        """The relations that its clauses state."""
        return tuple(clause.position.relation for clause in self.include if clause.position is not None)

    @property
    def least_score(self) -> float:
        """The confidence above which a find takes part in the record's task."""
        return COUNTING_SCORE if self.tag == "counting" else MIN_SCORE


def score_image(
    record: GenevalRecord, detections: Sequence[Detection], colors: Mapping[NamedBox, str] | None = None
) -> Verdict:
    """Apply GenEval's rules to the detections of an image; `colors` are those of the boxes that `colored_boxes` lists.

    Detections above the task's confidence take part, the 16 most confident of each class. An included
    clause of count n looks at the n most confident boxes of its class: fewer are a fault, more are none. A
    colour must be that of all n, whatever a less confident box has; only then is the position looked at.
    A position must hold between each of these and each of the boxes of the target clause; with counts of 1,
    between the best box of either class. A target that was not found, is misplaced or of another colour, is a
    fault. An excluded clause of count n is a fault when n or more boxes of its class take part. Of equal
    confidences the first listed comes first. Raises KeyError for a box whose colour is needed and not given.
    """
    failures = clause_failures(record, detections, colors or {})
    return Verdict(failures=tuple(failure for failure in failures if failure is not None))


def clause_failures(
    record: GenevalRecord, detections: Sequence[Detection], colors: Mapping[NamedBox, str]
) -> list[Failure | None]:
    """Return what is wrong with each clause, those to include first; it is judged on its own and its target's boxes."""
    boxes = kept_boxes(detections, record.least_score)
    groups: list[Sequence[Box] | None] = []  # per clause its boxes, or None where it does not hold
    failures: list[Failure | None] = []
    for clause in record.include:
        found = boxes.get(geneval_name(clause.name), [])[: clause.count]
        failure = _missing(clause, found) or _miscolored(clause, found, colors)
        if failure is None and clause.position is not None:
            target = record.include[clause.position.index].name
            asked = Triplet(subject=clause.name, relation=clause.position.relation, object=target)
            failure = _misplaced(asked, found, groups[clause.position.index])
        groups.append(found if failure is None else None)
        failures.append(failure)
    return failures + [_surplus(clause, boxes) for clause in record.exclude]


def colored_boxes(record: GenevalRecord, detections: Sequence[Detection]) -> list[NamedBox]:
    """Return the boxes whose colour a verdict depends on: of clauses with a colour, found as often as asked."""
    boxes = kept_boxes(detections, record.least_score)
    named: list[NamedBox] = []
    for clause in record.include:
        name = geneval_name(clause.name)
        found = boxes.get(name, [])
        if clause.color is not None and len(found) >= clause.count:
            named += [(name, box) for box in found[: clause.count]]
    return list(dict.fromkeys(named))


def all_found(record: GenevalRecord, counts: Mapping[str, int]) -> bool:
    """Whether every included class was found as often as asked, given the boxes of each class."""
    return all(counts.get(geneval_name(clause.name), 0) >= clause.count for clause in record.include)


def _missing(clause: Clause, found: Sequence[Box]) -> Failure | None:
    if len(found) >= clause.count:
        return None
    return Failure(kind=FailureKind.MISSING, objects=(clause.name,), count=clause.count, found=len(found))


def _miscolored(clause: Clause, found: Sequence[Box], colors: Mapping[NamedBox, str]) -> Failure | None:
    """Return what is wrong with the colours of the boxes that a clause looks at, None where nothing is."""
    if clause.color is None:
        return None
    seen = [colors[geneval_name(clause.name), box] for box in found]
    if seen.count(clause.color) >= clause.count:
        return None
    return Failure(
        kind=FailureKind.WRONG_COLOR,
        objects=(clause.name,),
        asked=clause.color,
        there=tuple(dict.fromkeys(seen)),
        count=clause.count,
    )


def _misplaced(asked: Triplet, found: Sequence[Box], targets: Sequence[Box] | None) -> Failure | None:
    """Return what is wrong with the place of a clause's boxes, None where nothing is; each pair speaks for itself."""
    if targets is None:
        return Failure(kind=FailureKind.WRONG_RELATION, objects=(asked.subject, asked.object), asked=asked.relation)
    for box in found:
        for other in targets:
            held = relations_between(box, other)
            if asked.relation not in held:
                return misplaced(asked, held)
    return None


def _surplus(clause: Clause, boxes: Mapping[str, Sequence[Box]]) -> Failure | None:
    count = len(boxes.get(geneval_name(clause.name), ()))
    if count < clause.count:
        return None
    return Failure(kind=FailureKind.SURPLUS, objects=(clause.name,), count=clause.count, found=count)
