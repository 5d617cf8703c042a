"""Stages 5 and 6: make the benchmark's images, and judge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from l2s_core.backbones.load import pick_device
from l2s_core.evaluation.judged_image import FILE, read_judged, write_judged
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.samples import SampleShard, load_samples, save_samples
from l2s_core.planning.memory import PeakMemory
from l2s_core.storage.store import ensure
from tasks.models import judging_for, sample_context
from tasks.progress import judged
from tasks.shards import over_shards
from tasks.stage_task import GPU, accelerator, dask_worker, stage_task


def sample_shard(run: Run, method: str, shard: str, rebuild: bool = False) -> Path:
    """Make one shard of benchmark images by a method, unless they are there."""
    path = run.paths.samples(method) / f"{shard}.safetensors"
    config = run.config
    items = dict(run.item_shards())[shard]

    def build() -> None:
        with accelerator(), PeakMemory(pick_device(config.device)) as memory:
            samples = run.methods[method].sample(sample_context(run), items)
        save_samples(path, replace(samples, peak_bytes=memory.peak))

    ensure(path, load_samples, build, rebuild=rebuild)
    if not (run.paths.verdicts(method) / FILE).is_file() and dask_worker() is None:
        _judge_early(run, items, load_samples(path))
    return path


def _judge_early(run: Run, items: Sequence[EvalItem], samples: SampleShard) -> None:
    """Tell how many images of a shard are right; the judge keeps what it finds for the verdicts."""
    with accelerator():
        images = judging_for(run).judge_samples(items, [samples])
    judged(sum(image.correct for image in images), len(images))


sample_shards = over_shards(sample_shard, name="sample images", tags=[GPU])


@stage_task(name="judge images", tags=[GPU])
def judge_method(run: Run, method: str, shards: list[Path], rebuild: bool = False) -> Path:
    """Write the verdicts of a method's images unless they are there; return their JSON file."""
    path = run.paths.verdicts(method) / FILE

    def build() -> None:
        samples = [load_samples(shard) for shard in shards]
        with accelerator():
            images = judging_for(run).judge_samples(run.items, samples)
        write_judged(path, images)

    ensure(path, read_judged, build, rebuild=rebuild)
    return path
