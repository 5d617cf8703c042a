"""Stages 5 and 6: make the benchmark's images, and judge them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from l2s_core.backbones.load import pick_device
from l2s_core.config import PLAIN
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.judged_image import FILE, read_judged, write_judged
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.samples import SampleShard, load_samples, sample_items, save_samples
from l2s_core.planning.memory import PeakMemory
from l2s_core.steering.steering import steer_by
from l2s_core.storage.store import ensure
from tasks.methods import sample_method
from tasks.models import backbone_for, classifier_for, judging_for
from tasks.shards import over_shards
from tasks.stage_task import GPU, accelerator, stage_task


def sample_shard(run: Run, method: str, shard: str, rebuild: bool = False) -> Path:
    """Make one shard of benchmark images by a method, unless they are there."""
    path = run.paths.samples(method) / f"{shard}.safetensors"
    config = run.config
    items = dict(run.item_shards())[shard]

    def build() -> None:
        with accelerator(), PeakMemory(pick_device(config.device)) as memory:
            samples = (
                sample_method(run, method, items)
                if method in config.methods
                else _sample_classifier(run, method, items)
            )
        save_samples(path, replace(samples, peak_bytes=memory.peak))

    ensure(path, load_samples, build, rebuild=rebuild)
    return path


sample_shards = over_shards(sample_shard, name="sample images", tags=[GPU])


def _sample_classifier(run: Run, method: str, items: list[EvalItem]) -> SampleShard:
    config = run.config
    sampler = Sampler.of(backbone_for(config), config)
    if method == PLAIN:
        return sample_items(sampler, items)
    classifier = classifier_for(config, run.paths.classifier(method))
    return sample_items(sampler, items, steer_by(classifier, config.steering))


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
