"""Train one classifier on a dataset and measure it on the splits it never trained on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.training import KINDS, EpochFunction, evaluate, train_classifier
from l2s_core.config import ClassifierConfig
from l2s_core.dataset.reader import MapDataset
from l2s_core.files import read_json, write_json

RESULT = "result.json"  # written last: a folder that has it is complete


def run_experiment(
    config: ClassifierConfig, shards: Mapping[str, Sequence[Path]], *, device: str = "cpu", on_epoch: EpochFunction | None = None
) -> tuple[TrainedClassifier, dict[str, Any]]:
    """Return the trained classifier and its JSON-able result; `shards` has those of every kind of maps there is.

    Training and early stopping see the maps that `config.maps` names, and of these the prompt kinds of `config.prompts`. The
    validation and test figures are of the same maps under true and wrong prompts; `test_by_maps` has a test of every kind there is.
    """
    began, kinds = time.perf_counter(), KINDS[config.prompts]
    own = [path for kind, paths in shards.items() if config.maps in (kind, "both") for path in paths]
    train, val = (MapDataset(own, split=split, kinds=kinds) for split in ("train", "val"))
    trained = train_classifier(config, train, val, device=device, on_epoch=on_epoch)
    classifier = TrainedClassifier(model=trained.model, config=config, source=train.source)
    seconds = time.perf_counter() - began
    validation, test = (evaluate(trained.model, MapDataset(own, split=split), device=device) for split in ("val", "test"))
    by_maps = {kind: evaluate(trained.model, MapDataset(paths, split="test"), device=device).summary() for kind, paths in shards.items()}
    return classifier, {
        "best_epoch": trained.best_epoch, "history": trained.history, "seconds": seconds,
        "records": {"train": len(train), "val": len(val), "test": len(test.records)},
        "validation": validation.summary(), "test": test.summary(), "test_by_maps": by_maps, "confusion": test.confusion(),
    }  # fmt: skip


def save_experiment(folder: Path, classifier: TrainedClassifier, result: dict[str, Any]) -> None:
    """Write the classifier and then its result."""
    classifier.save(folder)
    write_json(folder / RESULT, result)


def load_result(folder: Path) -> dict[str, Any]:
    """Read a result; raises UserError when it or the classifier beside it is missing or damaged."""
    TrainedClassifier.load(folder)
    return read_json(folder / RESULT)
