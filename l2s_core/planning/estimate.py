"""How much work, memory and disk a run means, before it is run."""

from __future__ import annotations

from collections.abc import Iterable

from l2s_core.config import PLAIN, RunConfig
from l2s_core.data.scenes import PromptKind
from l2s_core.evaluation.methods.method import methods_of
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.evaluation.work import Prices, Work
from l2s_core.planning.cost import FileSizes, ModelCost

PARQUET_SHARE = 0.8  # of the maps' bytes that compression leaves; 0.77 in a run of configs/mini-sd.yaml
MAP_BYTES = 2  # float16
NOISE_BYTES = 4  # float32
IMAGE_BYTES = 1  # uint8


def stage_hours(config: RunConfig, prices: Prices) -> dict[str, float]:
    """Return the hours of every stage at most, at prices in seconds."""
    return {stage: work.total(prices) / 3600 for stage, work in work_of(config).items()}


def work_of(config: RunConfig) -> dict[str, Work]:
    """Return the evaluations of every stage; steering counts as if no image left the loop early (an upper bound)."""
    work: dict[str, Work] = {}
    sampled = scenes_of(config) * config.trajectories
    if config.inverts:
        work |= _inversion_work(config)
    if sampled:
        one = Work(guided=config.backbone.steps, forwards=len(config.capture.steps))
        work["trajectories"] = one.times(sampled)
    work["sample plain"] = sampling_work(config, [PLAIN])
    work["sample steered"] = sampling_work(config, config.every_classifier)
    if config.methods:
        work["sample further methods"] = sampling_work(config, config.methods)
    return work


def sampling_work(config: RunConfig, names: Iterable[str]) -> Work:
    """Return the evaluations that the images of some methods of a run take, at most."""
    methods = methods_of(config)
    return sum((methods[name].work(config) for name in names), start=Work()).times(images_of(config))


def _inversion_work(config: RunConfig) -> dict[str, Work]:
    steps = config.backbone.steps
    inversion = config.inversion
    if inversion.method == "fixed-point":
        invert = steps * inversion.iterations
        capture = steps
    else:
        invert = 0 if inversion.gamma == 1.0 else steps
        capture = len(config.capture.steps) if inversion.eta == 1.0 else steps
    prompts = scenes_of(config) * len(PromptKind)
    return {"invert": Work(forwards=prompts * invert), "capture": Work(forwards=prompts * capture)}


def scenes_of(config: RunConfig) -> int:
    """Number of scenes of a run."""
    return sum(len(part.chosen) * (part.train + part.val + part.test) for part in config.data.parts)


def images_of(config: RunConfig) -> int:
    """Number of benchmark images of one method."""
    return len(benchmark_items(config))


def disk_bytes(config: RunConfig, sizes: FileSizes) -> dict[str, int]:
    """Return the bytes each stage leaves on disk."""
    prompts = scenes_of(config) * len(PromptKind)
    maps = len(config.capture.steps) * sizes.stacks * sizes.channels * sizes.cells * MAP_BYTES * PARQUET_SHARE
    maps *= config.data.pairs_a_scene
    targets = 2 if config.inversion.method == "rectified-flow" else 1
    pixels = 3 * sizes.pixels * IMAGE_BYTES
    return {
        "scenes": scenes_of(config) * pixels,
        **(
            {"noise": prompts * sizes.latents * NOISE_BYTES * targets, "maps": int(prompts * maps)}
            if config.inverts
            else {}
        ),
        **({"trajectories": int(scenes_of(config) * config.trajectories * maps)} if config.trajectories else {}),
        "images": len(config.every_method) * image_bytes(config, sizes),
    }


def image_bytes(config: RunConfig, sizes: FileSizes) -> int:
    """Return the bytes that one method's images leave on disk."""
    return images_of(config) * 3 * sizes.pixels * IMAGE_BYTES


def memory_bytes(config: RunConfig, cost: ModelCost) -> dict[str, int]:
    """Return the bytes of device memory each stage needs: weights in place, and a batch's activations."""
    resident = max(cost.weights.values()) if config.backbone.offload else sum(cost.weights.values())
    forward = config.batch * cost.forward_bytes
    return {
        **({"invert": resident + forward, "capture": resident + forward} if config.inverts else {}),
        **({"trajectories": resident + 2 * forward} if config.trajectories else {}),
        "sample plain": resident + 2 * forward,
        "sample steered": resident + config.batch * cost.saved_bytes + forward,
    }
