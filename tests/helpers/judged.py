"""Judged images as tests need them: of prompts of one relation, right or wrong in a stated way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from l2s_core.classifier.experiment import ClassifierResult
from l2s_core.config import MAIN
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.protocols.verdict import Failure, FailureKind, RelationVerdict, Verdict
from l2s_core.evaluation.run_summary import ClassifierFigures, MethodFigures, RunSummary
from l2s_core.evaluation.statistics.aggregate import MethodSummary, Rate
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


def method_summary(*, correct: float = 1.0, all_found: float = 1.0, count: int = 10, **values: Any) -> MethodSummary:
    """Return what images of these rates come to; all else is nothing, unless `values` give it."""
    fields = {
        "correct": rate(correct, count),
        "all_found": rate(all_found, count),
        "extra": rate(0, count),
        "by_relation": {},
        "by_prompt_group": {},
        "gradients": 0,
        "checks": 0,
        "skipped": 0,
        "seconds": 1.0,
    }
    return MethodSummary(**fields | values)


def rate(value: float, count: int = 10) -> Rate:
    """Return a rate without an interval."""
    return Rate(hits=round(value * count), count=count, rate=value, low=value, high=value)


def run_summary(*, accuracy: float = 0.8, train_seconds: float = 1.0, **values: Any) -> RunSummary:
    """Return the figures of a run whose plain and steered images are alike, see `method_summary`."""
    plain = MethodFigures(kind="plain", label="plain", summary=method_summary(**values))
    steered = MethodFigures(kind="classifier", label="steered", summary=method_summary(**values))
    result = ClassifierResult(
        best_epoch=0,
        history=[],
        seconds=train_seconds,
        records={},
        validation={},
        test={"accuracy": accuracy},
        confusion=[],
    )
    main = ClassifierFigures(steered=steered, result=result)
    return RunSummary(name="tiny", plain=plain, classifiers={MAIN: main}, methods={})
