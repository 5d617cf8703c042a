"""What a run's dataset is made of: scenes, inversions, sampled images, and how good the judge of it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import pandas as pd

from l2s_core.data.catalogue import load_catalogue
from l2s_core.data.scene_shards import load_skipped, load_triplets
from l2s_core.data.source import source_of
from l2s_core.dataset.reader import badly_returned, image_ids, reconstructions
from l2s_core.evaluation.detectors.accuracy import JudgeAccuracy, measure_judge
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.run import Run
from l2s_core.relations import ATTRIBUTE

PACKAGES = ("torch", "diffusers", "transformers", "prefect", "mlflow", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """The number of scenes, and what the source could not give.

    `skipped` counts entries and images by reason, `named` names the first ones; `short` counts quotas not filled.
    """

    scenes: int
    skipped: Mapping[str, int]
    named: list[str]
    short: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class InversionSummary:
    """How many images were inverted, how many the PSNR filter dropped, and the mean PSNR, dB."""

    images: int
    dropped: int
    psnr: float


@dataclass(frozen=True, kw_only=True)
class TrajectorySummary:
    """How many images were sampled for their maps, and how many of them show one relation."""

    images: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """What a run was made of: the addresses of its stages, the packages' versions, and its data.

    `inversion` and `trajectories` are None for kinds of maps that the run does not have, `judge` where the source
    renders no scenes to measure it on.
    """

    stages: Mapping[str, str]
    versions: Mapping[str, str]
    data: DataSummary
    inversion: InversionSummary | None
    trajectories: TrajectorySummary | None
    judge: JudgeAccuracy | None


def dataset_summary(run: Run, judge: Judge) -> DatasetSummary:
    """Return what a run with finished stages was made of."""
    maps = {kind: folder.name for kind, folder in run.paths.map_folders.items()}
    classifiers = {f"classifier/{name}": run.paths.classifier(name).name for name in run.classifiers}
    renders = source_of(run.config.data).REFERENCE_SIDE is not None
    return DatasetSummary(
        stages={**maps, **classifiers},
        versions={name: version(name) for name in PACKAGES},
        data=_data_summary(run),
        inversion=_inversion_summary(run) if run.config.inverts else None,
        trajectories=_trajectory_summary(run) if run.config.trajectories else None,
        judge=measure_judge(judge, min_score=run.config.benchmark.min_score) if renders else None,
    )


def _data_summary(run: Run) -> DataSummary:
    catalogue = load_catalogue(run.paths.catalogue)
    counts = Counter(catalogue.skipped)
    named = list(catalogue.named)
    for name, _ in run.scene_shards():
        skipped, names = load_skipped(run.paths.scenes / f"{name}.safetensors")
        counts.update(skipped)
        named += names
    return DataSummary(scenes=len(catalogue.entries), skipped=dict(counts), named=named, short=catalogue.short)


def _inversion_summary(run: Run) -> InversionSummary:
    returned = pd.concat([reconstructions(run.paths.maps / f"{name}.parquet") for name, _ in run.scene_shards()])
    return InversionSummary(
        images=returned["image_id"].nunique(),
        dropped=len(badly_returned(returned, run.config.inversion.min_psnr)),
        psnr=float(returned["psnr"].mean()),
    )


def _trajectory_summary(run: Run) -> TrajectorySummary:
    images = 0
    kept = 0
    for name, _ in run.scene_shards():
        triplets = load_triplets(run.paths.scenes / f"{name}.safetensors")
        images += run.config.trajectories * sum(t.relation != ATTRIBUTE for t in triplets)
        kept += len(set(image_ids(run.paths.trajectories / f"{name}.parquet")))
    return TrajectorySummary(images=images, kept=kept)
