"""Stage 4: train a classifier, tracked in MLflow."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from l2s_core.backbones.load import pick_device
from l2s_core.classifier.experiment import RESULT, load_result, run_experiment, save_experiment
from l2s_core.data.scenes import SPLITS
from l2s_core.dataset.reader import MapDataset
from l2s_core.storage.stages import Stages
from l2s_core.storage.store import ensure
from tasks.stage_task import GPU, accelerator, stage_task
from tasks.tracking.classifier_run import ClassifierRun


@stage_task(name="train classifier", tags=[GPU])
def train_classifier(stages: Stages, name: str, shards: dict[str, list[Path]], rebuild: bool = False) -> Path:
    """Train a classifier unless it is there, and see that MLflow has its run; return its folder."""
    folder = stages.classifier(name)
    run = ClassifierRun(stages, name)
    own = {kind: shards[kind] for kind in stages.maps_of(name)}
    started = False

    def build() -> None:
        nonlocal started
        run.start()
        started = True
        try:
            with accelerator():
                device = pick_device(stages.config.device)
                trained = run_experiment(
                    stages.classifiers[name],
                    [path for paths in own.values() for path in paths],
                    device=device,
                    on_epoch=run.epoch,
                )
            save_experiment(folder, *trained)
        except BaseException:
            run.fail()
            raise

    ensure(folder / RESULT, lambda path: load_result(path.parent), build, rebuild=rebuild)
    if started or run.finished() is None:
        result = load_result(folder)
        if not started:  # trained before, but this store never heard of it
            run.start()
            for number, row in enumerate(result.history):
                run.epoch(number, row)
        run.finish(result, {kind: _records(paths) for kind, paths in own.items()})
    return folder


def _records(shards: list[Path]) -> pd.DataFrame:
    """Everything but the maps of a folder of shards."""
    return pd.concat([MapDataset(shards, split=split).frame() for split in SPLITS])
