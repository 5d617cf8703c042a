"""Several relations in one prompt: a verdict per pair (Yiflach et al., arXiv 2509.02295, several relations)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.judge import Detection
from l2s_core.evaluation.protocols.geneval import MIN_SCORE, Box, geneval_name, kept_boxes
from l2s_core.prompts.prompt import Phrases, SeveralPrompt, Triplet, depicted, phrase_spans
from l2s_core.relations import ATTRIBUTE, RELATIONS, label_index, relations_between


@dataclass(frozen=True, kw_only=True)
class PairVerdict:
    """Whether one relation holds between its own two objects."""

    triplet: Triplet
    correct: bool
    both: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class SeveralVerdict:
    """Whether every relation holds; `both` says that every object was found."""

    correct: bool
    both: bool
    reason: str
    pairs: tuple[PairVerdict, ...]


def several_prompt(text: str, triplets: Sequence[Triplet]) -> SeveralPrompt:
    """Build the record; raises UserError for no relation, an unknown one, or an object that the text does not name exactly once.

    Two objects of one class cannot be told apart, neither by a phrase nor by a detector: such prompts are refused.
    """
    if not triplets:
        raise UserError(f"the prompt {text!r} has no relations; needed: one or more")
    for triplet in triplets:
        label_index(triplet.relation, RELATIONS)
        if triplet.subject == triplet.object:
            raise UserError(
                f"the prompt {text!r} relates {triplet.subject!r} to itself; allowed: objects of different classes"
            )
    names = {name for t in triplets for name in (t.subject, t.object)}
    if len({geneval_name(name) for name in names}) < len(names):
        raise UserError(f"two objects of the prompt {text!r} are one class; allowed: objects of different classes")
    found = phrase_spans(text, names)
    return SeveralPrompt(text=text, triplets=tuple(triplets), objects=tuple(found), spans=tuple(found.values()))


def score_several(prompt: Phrases, detections: Sequence[Detection], min_score: float = MIN_SCORE) -> SeveralVerdict:
    """Judge every relation by GenEval's rule on the best box of its own two classes; all must hold for the image to count.

    What one pair shows is never evidence for another. A relation with an object that was not found fails. Attributes are
    not judged: boxes do not show them.
    """
    boxes = kept_boxes(detections, min_score)
    pairs = tuple(_judge_pair(triplet, boxes) for triplet in prompt.triplets if triplet.relation != ATTRIBUTE)
    missing = [name for name in depicted(prompt) if geneval_name(name) not in boxes]
    faults = [f"not found: {', '.join(missing)}"] if missing else []
    faults += [f"{p.triplet.subject} {p.reason} {p.triplet.object}" for p in pairs if p.both and not p.correct]
    return SeveralVerdict(correct=not faults, both=not missing, reason="; ".join(faults) or "correct", pairs=pairs)


def _judge_pair(triplet: Triplet, boxes: Mapping[str, Sequence[Box]]) -> PairVerdict:
    missing = [name for name in (triplet.subject, triplet.object) if geneval_name(name) not in boxes]
    if missing:
        return PairVerdict(triplet=triplet, correct=False, both=False, reason=f"not found: {', '.join(missing)}")
    held = relations_between(boxes[geneval_name(triplet.subject)][0], boxes[geneval_name(triplet.object)][0])
    correct = triplet.relation in held
    reason = "correct" if correct else f"is {' and '.join(sorted(held)) or 'in no relation'}, not {triplet.relation}"
    return PairVerdict(triplet=triplet, correct=correct, both=True, reason=reason)
