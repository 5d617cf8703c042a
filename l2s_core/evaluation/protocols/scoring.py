"""One verdict an image, with a reason, by the protocol that its prompt belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from l2s_core.evaluation.detectors.judge import Detection
from l2s_core.evaluation.protocols import compbench, geneval
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.several import score_several
from l2s_core.prompts.prompt import Phrases


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether an image shows what its prompt asks for; `both` says that every object was found.

    `score` in [0, 1] is that of a protocol with a soft one, `pairs` whether each of a prompt's relations holds, in their order.
    """

    correct: bool
    both: bool
    reason: str
    score: float | None = None
    pairs: tuple[bool, ...] = ()


def judge_item(
    item: EvalItem,
    detections: Sequence[Detection],
    size: tuple[int, int],
    min_score: float,
    colors: Mapping[geneval.NamedBox, str] | None = None,
) -> Verdict:
    """Judge an image of `size` (width, height) pixels.

    `min_score` is for prompts whose protocol has no threshold of its own, `colors` for those that ask for some (see `seen_colors`).
    """
    if isinstance(item.record, geneval.GenevalRecord):
        found = geneval.score_image(item.record, detections, colors)
        return Verdict(correct=found.correct, both=found.both, reason=found.reason)
    if isinstance(item.record, compbench.SpatialPrompt):
        soft = compbench.score_image(item.record, detections, size)
        return Verdict(correct=soft.both and soft.position == 1, both=soft.both, reason=soft.reason, score=soft.score)
    return judge_relations(item.prompt, detections, min_score)


def class_of(item: EvalItem, name: str) -> str:
    """Return the class that the item's protocol takes an object's or a find's name for."""
    return (compbench.detector_class if isinstance(item.record, compbench.SpatialPrompt) else geneval.geneval_name)(
        name
    )


def least_score(item: EvalItem, min_score: float) -> float:
    """Return the confidence above which a find takes part in the item's verdict; `min_score` as in `judge_item`."""
    if isinstance(item.record, geneval.GenevalRecord):
        return geneval.least_score(item.record)
    return compbench.MIN_SCORE if isinstance(item.record, compbench.SpatialPrompt) else min_score


def finds(item: EvalItem, detections: Sequence[Detection], min_score: float) -> list[Detection]:
    """Return the finds that take part in the item's verdict, those of an object that was asked for by the prompt's name of it."""
    asked = {class_of(item, name): name for name in item.objects}
    least = least_score(item, min_score)
    return [replace(d, name=asked.get(class_of(item, d.name), d.name)) for d in detections if d.score > least]


def judge_relations(prompt: Phrases, detections: Sequence[Detection], min_score: float) -> Verdict:
    """Apply GenEval's rule to the best box of each class above `min_score`, for every relation of the prompt."""
    found = score_several(prompt, detections, min_score)
    reason = found.pairs[0].reason if len(found.pairs) == 1 else found.reason
    return Verdict(correct=found.correct, both=found.both, reason=reason, pairs=tuple(p.correct for p in found.pairs))
