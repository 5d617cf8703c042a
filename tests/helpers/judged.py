"""Judged images as tests need them: of prompts of one relation, right or wrong in a stated way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.protocols.verdict import Failure, FailureKind, RelationVerdict, Verdict
from l2s_core.relations import Triplet

MISSING = Failure(kind=FailureKind.MISSING, objects=("dog",))
WRONG = Failure(kind=FailureKind.WRONG_RELATION, objects=("dog", "cat"), asked="left of", there=("above",))
NOWHERE = Failure(kind=FailureKind.NO_RELATION, objects=("dog", "cat"), asked="left of", there=())


class BlindJudge(Judge):
    """A judge that finds nothing, and gives no features."""

    def __init__(self) -> None: ...

    def detect(self, images: np.ndarray, names: Sequence[Sequence[str]] | None = None) -> list[list[Detection]]:
        return [[] for _ in images]


def wrong(asked: str) -> Failure:
    """Return the failure of a relation that is another one."""
    return Failure(kind=FailureKind.WRONG_RELATION, objects=("dog", "cat"), asked=asked, there=("below",))


def judged_image(number: int, *failures: Failure, score: float | None = None, **values: Any) -> JudgedImage:
    """Return the image `number`, two of a prompt; without failures it is right."""
    asks_for = values.pop("asks_for", ("above", "below")[number // 2 % 2])
    relation = RelationVerdict(
        triplet=Triplet(subject="dog", relation=asks_for, object="cat"), failure=failures[0] if failures else None
    )
    fields = {
        "item_id": f"i{number}",
        "prompt_group": ("seen", "novel")[number % 2],
        "prompt": f"prompt {number // 2}",
        "seed": number,
        "objects": ("dog", "cat"),
        "verdict": Verdict(failures=failures, relations=(relation,), score=score),
        "detections": (),
        "seconds": 0.5,
    }
    return JudgedImage(**{**fields, "asks_for": asks_for, **values})
