"""Stage 4: train a classifier, tracked in MLflow."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from l2s_core.backbones.load import pick_device
from l2s_core.classifier.checkpoint import RESULT
from l2s_core.classifier.experiment import load_result, run_experiment, save_experiment
from l2s_core.data.scenes import SPLITS
from l2s_core.dataset.reader import MapDataset
from l2s_core.evaluation.run import Run
from l2s_core.storage.store import ensure
from tasks.progress import advance, telling
from tasks.stage_task import GPU, accelerator, stage_task
from tasks.tracking.classifier_run import ClassifierRun


@stage_task(name="train classifier", tags=[GPU])
def train_classifier(
    run: Run, name: str, shards: dict[str, list[Path]], token: str = "", rebuild: bool = False
) -> Path:
    """Train a classifier unless it is there, and see that MLflow has its run; return its folder.

    It tells its progress in epochs, under the stage's `token`.
    """
    folder = run.paths.classifier(name)
    tracked = ClassifierRun(run, name)
    own = {kind: shards[kind] for kind in run.paths.maps_of(name)}
    started = False

    def build() -> None:
        nonlocal started
        tracked.start()
        started = True
        try:
            with accelerator(), telling(token, name):
                device = pick_device(run.config.device)
                trained = run_experiment(
                    run.classifiers[name],
                    [path for paths in own.values() for path in paths],
                    min_psnr=run.config.inversion.min_psnr,
                    device=device,
                    on_epoch=tracked.epoch,
                    on_batch=advance,
                )
            save_experiment(folder, *trained)
        except BaseException:
            tracked.fail()
            raise

    ensure(folder / RESULT, lambda path: load_result(path.parent), build, rebuild=rebuild)
    if started or tracked.finished() is None:
        result = load_result(folder)
        if not started:  # trained before, but this store never heard of it
            tracked.start()
            for number, row in enumerate(result.history):
                tracked.epoch(number, row)
        tracked.finish(result, {kind: _records(paths, run.config.inversion.min_psnr) for kind, paths in own.items()})
    return folder


def _records(shards: list[Path], min_psnr: float) -> pd.DataFrame:
    """Everything but the maps of what can be learnt from a folder of shards."""
    return pd.concat([MapDataset(shards, split=split, min_psnr=min_psnr).frame() for split in SPLITS])
