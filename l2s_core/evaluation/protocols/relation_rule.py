"""GenEval's rule for relations, for prompts that state any number of them (Yiflach et al., arXiv 2509.02295)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from l2s_core.evaluation.detectors.detection import Box, Detection
from l2s_core.evaluation.protocols.classes import geneval_name
from l2s_core.evaluation.protocols.verdict import Failure, FailureKind, RelationVerdict, Verdict, misplaced
from l2s_core.prompts.prompt import Phrases, depicted
from l2s_core.relations import PLANAR, Triplet, relations_between

MIN_SCORE = 0.3  # a detection takes part above this confidence
MAX_OBJECTS = 16  # detections of one class that take part, the most confident ones


def kept_boxes(detections: Sequence[Detection], min_score: float) -> dict[str, list[Box]]:
    """Return the boxes that take part by class, in GenEval's names, most confident first."""
    boxes: dict[str, list[Box]] = {}
    for detection in sorted(detections, key=lambda d: -d.score):
        if detection.score > min_score:
            group = boxes.setdefault(geneval_name(detection.name), [])
            if len(group) < MAX_OBJECTS:
                group.append(detection.box)
    return boxes


def judge_relations(prompt: Phrases, detections: Sequence[Detection], min_score: float = MIN_SCORE) -> Verdict:
    """Judge every relation on the best box of its own two classes; all must hold, and all objects be found.

    What one pair of objects shows is never evidence for another, but in the lenient verdict. A relation with an object
    that was not found fails. Attributes and depth are not judged: boxes do not show them.
    """
    boxes = kept_boxes(detections, min_score)
    triplets = [triplet for triplet in prompt.triplets if triplet.relation in PLANAR]
    held = [_held(triplet, boxes) for triplet in triplets]
    relations = tuple(_judge(triplet, boxes, there) for triplet, there in zip(triplets, held, strict=True))
    missing = _missing(depicted(prompt), boxes)
    wrong = [r.failure for r in relations if r.failure is not None and r.failure.kind is not FailureKind.MISSING]
    return Verdict(
        failures=tuple(wrong if missing is None else [missing, *wrong]),
        relations=relations,
        lenient=missing is None and _lenient(triplets, held) if len(triplets) > 1 else None,
    )


def _held(triplet: Triplet, boxes: Mapping[str, Sequence[Box]]) -> frozenset[str]:
    """Return the relations between the best boxes of a triplet's objects, none where one has no box."""
    if _missing((triplet.subject, triplet.object), boxes) is not None:
        return frozenset()
    return relations_between(boxes[geneval_name(triplet.subject)][0], boxes[geneval_name(triplet.object)][0])


def _judge(triplet: Triplet, boxes: Mapping[str, Sequence[Box]], held: frozenset[str]) -> RelationVerdict:
    missing = _missing((triplet.subject, triplet.object), boxes)
    if missing is not None:
        return RelationVerdict(triplet=triplet, failure=missing)
    return RelationVerdict(triplet=triplet, failure=None if triplet.relation in held else misplaced(triplet, held))


def _lenient(triplets: Sequence[Triplet], held: Sequence[frozenset[str]]) -> bool:
    """Whether every relation holds between its own objects or those of a relation before it."""
    return all(triplet.relation in frozenset().union(*held[: n + 1]) for n, triplet in enumerate(triplets))


def _missing(names: Sequence[str], boxes: Mapping[str, Sequence[Box]]) -> Failure | None:
    """Return the failure of the names that no box has, None where all have one."""
    missing = tuple(name for name in names if geneval_name(name) not in boxes)
    return Failure(kind=FailureKind.MISSING, objects=missing) if missing else None
