"""Train one classifier on a dataset and measure it on the splits it never trained on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from l2s_core.classifier.checkpoint import RESULT, TRAIN_AGAIN, TrainedClassifier
from l2s_core.classifier.labels import Labels
from l2s_core.classifier.training import KINDS, BatchFunction, EpochFunction, evaluate, train_classifier
from l2s_core.config import ClassifierConfig
from l2s_core.dataset.reader import MapDataset
from l2s_core.storage.versioned import read_versioned, write_versioned

FORMAT = 1  # of result.json


@dataclass(frozen=True, kw_only=True)
class ClassifierResult:
    """How a training went, and what the classifier can do.

    `best_epoch` is the one whose weights were kept, `history` a row of metrics for every epoch, `seconds` the wall time
    of the training, `records` the number of records by split. `validation` and `test` are the metrics of
    `Evaluation.summary`, on true and wrong prompts. `confusion` counts test records: rows true, columns predicted, in
    the order of the relations.
    """

    best_epoch: int
    history: list[dict[str, float]]
    seconds: float
    records: dict[str, int]
    validation: dict[str, float]
    test: dict[str, float]
    confusion: list[list[int]]

    def to_json(self) -> dict[str, Any]:
        """The result as result.json and a report's summary.json have it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            best_epoch=int(value["best_epoch"]),
            history=[dict(row) for row in value["history"]],
            seconds=float(value["seconds"]),
            records=dict(value["records"]),
            validation=dict(value["validation"]),
            test=dict(value["test"]),
            confusion=[list(row) for row in value["confusion"]],
        )


def run_experiment(
    config: ClassifierConfig,
    shards: Sequence[Path],
    *,
    min_psnr: float = 0.0,
    device: str = "cpu",
    on_epoch: EpochFunction | None = None,
    on_batch: BatchFunction | None = None,
) -> tuple[TrainedClassifier, ClassifierResult]:
    """Return the trained classifier and what it can do.

    Training and early stopping see the prompt kinds that `config.prompts` names; the reported
    validation and test figures always cover true and wrong prompts, and pairs with several true relations.
    `min_psnr`, dB, is as in `MapDataset`.
    """
    began = time.perf_counter()
    kinds = KINDS[config.prompts]
    labels = Labels(config.labels)
    split = partial(MapDataset, shards, min_psnr=min_psnr)
    train = split(split="train", kinds=kinds, several=labels.takes_several)
    val = split(split="val", kinds=kinds, several=labels.takes_several)
    trained = train_classifier(config, train, val, device=device, on_epoch=on_epoch, on_batch=on_batch)
    seconds = time.perf_counter() - began
    validation = evaluate(trained.model, split(split="val"), labels=labels, device=device)
    test = evaluate(trained.model, split(split="test"), labels=labels, device=device)
    result = ClassifierResult(
        best_epoch=trained.best_epoch,
        history=trained.history,
        seconds=seconds,
        records={"train": len(train), "val": len(val), "test": len(test.records)},
        validation=validation.summary(),
        test=test.summary(),
        confusion=test.confusion(),
    )
    return TrainedClassifier(model=trained.model, config=config, source=train.source), result


def save_experiment(folder: Path, classifier: TrainedClassifier, result: ClassifierResult) -> None:
    """Write the classifier and then its result."""
    classifier.save(folder)
    write_versioned(folder / RESULT, FORMAT, result.to_json())


def load_result(folder: Path) -> ClassifierResult:
    """Read a result; raises UserError when it or the classifier beside it is missing or damaged."""
    TrainedClassifier.load(folder)
    return read_versioned(
        folder / RESULT, FORMAT, ClassifierResult.from_json, what="result of a training", remedy=TRAIN_AGAIN
    )


def copied_result(folder: Path) -> ClassifierResult:
    """Read the result in a folder that may be a copy of the one it was written in; raises UserError."""
    return read_versioned(
        folder / RESULT,
        FORMAT,
        ClassifierResult.from_json,
        what="result of a training",
        remedy=TRAIN_AGAIN,
        anywhere=True,
    )
