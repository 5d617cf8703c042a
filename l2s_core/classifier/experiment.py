"""Train one classifier on a dataset and measure it on the splits it never trained on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.training import KINDS, EpochFunction, evaluate, train_classifier
from l2s_core.config import ClassifierConfig
from l2s_core.dataset.reader import MapDataset
from l2s_core.storage.files import read_json, write_json

RESULT = "result.json"  # written last: a folder that has it is complete


def run_experiment(
    config: ClassifierConfig, shards: Sequence[Path], *, device: str = "cpu", on_epoch: EpochFunction | None = None
) -> tuple[TrainedClassifier, dict[str, Any]]:
    """Return the trained classifier and its JSON-able result.

    Training and early stopping see the prompt kinds that `config.prompts` names; the reported
    validation and test figures always cover true and wrong prompts.
    """
    began, kinds = time.perf_counter(), KINDS[config.prompts]
    train, val = (MapDataset(shards, split=split, kinds=kinds) for split in ("train", "val"))
    trained = train_classifier(config, train, val, device=device, on_epoch=on_epoch)
    classifier = TrainedClassifier(model=trained.model, config=config, source=train.source)
    seconds = time.perf_counter() - began
    validation, test = (
        evaluate(trained.model, MapDataset(shards, split=split), device=device) for split in ("val", "test")
    )
    return classifier, {
        "best_epoch": trained.best_epoch,
        "history": trained.history,
        "seconds": seconds,
        "records": {"train": len(train), "val": len(val), "test": len(test.records)},
        "validation": validation.summary(),
        "test": test.summary(),
        "confusion": test.confusion(),
    }


def save_experiment(folder: Path, classifier: TrainedClassifier, result: dict[str, Any]) -> None:
    """Write the classifier and then its result."""
    classifier.save(folder)
    write_json(folder / RESULT, result)


def load_result(folder: Path) -> dict[str, Any]:
    """Read a result; raises UserError when it or the classifier beside it is missing or damaged."""
    TrainedClassifier.load(folder)
    return read_json(folder / RESULT)
