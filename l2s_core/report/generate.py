"""One prompt, several seeds: plain beside steered."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from l2s_core.backbones.base import Backbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import RunConfig
from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.judging import Judging
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.several import Several
from l2s_core.prompts.prompt import Phrases
from l2s_core.report.grids import comparison_grid
from l2s_core.steering.steering import steer_by


def compare(
    backbone: Backbone,
    classifier: TrainedClassifier,
    judge: Judge,
    prompt: Phrases,
    seeds: Sequence[int],
    config: RunConfig,
) -> tuple[Image.Image, dict[str, int]]:
    """Return the picture of all seeds, plain and steered from the same noise, and how many of each are correct.

    Right means the objects and their places; attributes are steered, and not judged.
    """
    columns = {}
    verdicts = {}
    judging = Judging(protocol=Several(prompts=1, min_score=config.benchmark.min_score), judge=judge)
    items = [EvalItem(item_id=str(seed), prompt_group="", prompt=prompt, seed=seed) for seed in seeds]
    sampler = Sampler.of(backbone, config)
    prompts = [prompt] * len(seeds)
    sampled = {
        "plain": sampler(prompts, seeds),
        "steered": sampler(prompts, seeds, steer_by(classifier, config.steering)),
    }
    for method, made in sampled.items():
        images = made.images
        columns[method] = list(images.numpy())
        verdicts[method] = judging.judge_images(items, images)
    return comparison_grid(columns, verdicts), {
        method: sum(image.correct for image in judged) for method, judged in verdicts.items()
    }
