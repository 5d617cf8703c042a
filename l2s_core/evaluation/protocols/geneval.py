"""GenEval's records and its verdict on an image (Ghosh et al. 2023, arXiv 2310.11513)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from l2s_core.evaluation.detectors.judge import Detection
from l2s_core.evaluation.protocols.coco import COCO_CLASSES
from l2s_core.relations import relations_between

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
COLORS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
)  # the answers of its classifier of colours
MIN_SCORE = 0.3  # a detection takes part above this confidence ...
COUNTING_SCORE = 0.9  # ... or above this one, in the counting task
MAX_OBJECTS = 16  # detections of one class that take part, the most confident ones
# Classes that GenEval names otherwise than COCO does.
GENEVAL_NAMES = {"mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard"}
GENEVAL_CLASSES: tuple[str, ...] = tuple(GENEVAL_NAMES.get(name, name) for name in COCO_CLASSES)

Box = tuple[float, float, float, float]
NamedBox = tuple[str, Box]  # the class in GenEval's name


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


@dataclass(frozen=True, kw_only=True)
class ClauseVerdict:
    """Whether one clause holds, judged on its own boxes and its target's alone."""

    name: str
    holds: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class GenevalVerdict:
    """Whether every clause holds; `both` says that every included class was found as often as asked."""

    correct: bool
    both: bool
    reason: str
    clauses: tuple[ClauseVerdict, ...]


def score_image(
    record: GenevalRecord, detections: Sequence[Detection], colors: Mapping[NamedBox, str] | None = None
) -> GenevalVerdict:
    """Apply GenEval's rules to the detections of an image; `colors` are those of the boxes that `colored_boxes` lists.

    Detections above the task's confidence take part, the 16 most confident of each class. An included
    clause of count n looks at the n most confident boxes of its class: fewer are a fault, more are none. A
    colour must be that of all n, whatever a less confident box has; only then is the position looked at.
    A position must hold between each of these and each of the boxes of the target clause; with counts of 1,
    between the best box of either class. A target that was not found, is misplaced or of another colour, is a
    fault. An excluded clause of count n is a fault when n or more boxes of its class take part. Of equal
    confidences the first listed comes first. Raises KeyError for a box whose colour is needed and not given.
    """
    boxes = _boxes(record, detections)
    verdicts = _include_verdicts(record.include, boxes, colors or {}) + [
        _exclude_verdict(clause, boxes) for clause in record.exclude
    ]
    faults = [verdict.reason for verdict in verdicts if not verdict.holds]
    return GenevalVerdict(
        correct=not faults,
        both=all_found(record, {name: len(found) for name, found in boxes.items()}),
        reason="; ".join(faults) or "correct",
        clauses=tuple(verdicts),
    )


def colored_boxes(record: GenevalRecord, detections: Sequence[Detection]) -> list[NamedBox]:
    """Return the boxes whose colour a verdict depends on: those of every clause with a colour that was found as often as asked."""
    boxes = _boxes(record, detections)
    wanted = [(geneval_name(clause.name), clause.count) for clause in record.include if clause.color is not None]
    return list(
        dict.fromkeys(
            (name, box) for name, count in wanted if len(boxes.get(name, ())) >= count for box in boxes[name][:count]
        )
    )


def kept_boxes(detections: Sequence[Detection], min_score: float) -> dict[str, list[Box]]:
    """Return the boxes that take part by class, in GenEval's names, most confident first."""
    boxes: dict[str, list[Box]] = {}
    for detection in sorted(detections, key=lambda d: -d.score):
        group = boxes.setdefault(geneval_name(detection.name), []) if detection.score > min_score else None
        if group is not None and len(group) < MAX_OBJECTS:
            group.append(detection.box)
    return boxes


def all_found(record: GenevalRecord, counts: Mapping[str, int]) -> bool:
    """Whether every included class was found as often as asked, given the boxes of each class."""
    return all(counts.get(geneval_name(clause.name), 0) >= clause.count for clause in record.include)


def geneval_name(name: str) -> str:
    """Return GenEval's name of a class, in small letters; it may carry COCO's."""
    return GENEVAL_NAMES.get(name.lower(), name.lower())


def least_score(record: GenevalRecord) -> float:
    """Return the confidence above which a find takes part in the record's task."""
    return COUNTING_SCORE if record.tag == "counting" else MIN_SCORE


def _boxes(record: GenevalRecord, detections: Sequence[Detection]) -> dict[str, list[Box]]:
    return kept_boxes(detections, least_score(record))


def _include_verdicts(
    include: Sequence[Clause], boxes: Mapping[str, Sequence[Box]], colors: Mapping[NamedBox, str]
) -> list[ClauseVerdict]:
    groups: list[Sequence[Box] | None] = []  # per clause its boxes, or None where it does not hold
    verdicts = []
    for clause in include:
        found = boxes.get(geneval_name(clause.name), ())[: clause.count]
        fault = ""
        if len(found) < clause.count:
            fault = f"found {len(found)} of {clause.count} {clause.name}"
        elif clause.color is not None:
            fault = _miscolored(clause, [colors[geneval_name(clause.name), box] for box in found])
        if not fault and clause.position is not None:
            fault = _misplaced(clause, found, groups[clause.position.index], include[clause.position.index].name)
        groups.append(None if fault else found)
        verdicts.append(ClauseVerdict(name=clause.name, holds=not fault, reason=fault or "correct"))
    return verdicts


def _miscolored(clause: Clause, seen: Sequence[str]) -> str:
    """Return what is wrong with the colours of the boxes that a clause looks at, or nothing."""
    if seen.count(clause.color) >= clause.count:
        return ""
    return f"{clause.name} looks {' and '.join(dict.fromkeys(seen))}, not {'all ' if clause.count > 1 else ''}{clause.color}"


def _misplaced(clause: Clause, found: Sequence[Box], targets: Sequence[Box] | None, target: str) -> str:
    """Return what is wrong with the boxes of a clause, or nothing; each pair of boxes speaks for itself."""
    relation = clause.position.relation
    if targets is None:
        return f"no {target} for the {clause.name} to be {relation}"
    for box in found:
        for other in targets:
            held = relations_between(box, other)
            if relation not in held:
                return f"{clause.name} is {' and '.join(sorted(held)) or 'in no relation'}, not {relation} {target}"
    return ""


def _exclude_verdict(clause: Clause, boxes: Mapping[str, Sequence[Box]]) -> ClauseVerdict:
    count = len(boxes.get(geneval_name(clause.name), ()))
    holds = count < clause.count
    reason = "correct" if holds else f"found {count} {clause.name}, fewer than {clause.count} allowed"
    return ClauseVerdict(name=clause.name, holds=holds, reason=reason)
