"""GenEval's position task: one verdict an image, with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from l2s_core.evaluation.detectors import Detection
from l2s_core.prompts import Triplet
from l2s_core.relations import relations_between


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether an image shows its triplet; `both` says that both objects were found."""

    correct: bool
    both: bool
    reason: str


def judge_position(detections: Sequence[Detection], triplet: Triplet, min_score: float) -> Verdict:
    """Apply GenEval's rule to the best box of each class with score > min_score."""
    best: dict[str, Detection] = {}
    for d in sorted(detections, key=lambda d: -d.score):
        if d.score > min_score:
            best.setdefault(d.name, d)
    missing = [name for name in (triplet.subject, triplet.object) if name not in best]
    if missing:
        return Verdict(correct=False, both=False, reason=f"not found: {', '.join(missing)}")
    held = relations_between(best[triplet.subject].box, best[triplet.object].box)
    if triplet.relation in held:
        return Verdict(correct=True, both=True, reason="correct")
    return Verdict(correct=False, both=True, reason=f"is {' and '.join(sorted(held)) or 'in no relation'}, not {triplet.relation}")
