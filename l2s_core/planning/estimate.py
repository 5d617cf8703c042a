"""How much work, memory and disk a run means, before it is run."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from l2s_core.config import RunConfig, SelectionMethod, SteeringConfig
from l2s_core.data.scenes import PromptKind
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.planning.cost import FileSizes, ModelCost
from l2s_core.planning.measured import Prices

PARQUET_SHARE = 0.8  # of the maps' bytes that compression leaves; 0.77 in a run of configs/mini-sd.yaml
MAP_BYTES, NOISE_BYTES, IMAGE_BYTES = 2, 4, 1  # float16 maps, float32 noise, uint8 pixels
OBJECTS = 2


@dataclass(frozen=True, kw_only=True)
class Work:
    """Evaluations of the denoiser, one image each: alone, with guidance, and with a steering gradient."""

    forwards: int = 0
    guided: int = 0
    gradients: int = 0

    def total(self, *, forward: float, guided: float, gradient: float) -> float:
        """Return what this comes to at a price an evaluation: seconds, or floating-point operations."""
        return self.forwards * forward + self.guided * guided + self.gradients * gradient


def stage_hours(config: RunConfig, prices: Prices) -> dict[str, float]:
    """Return the hours of every stage at most, at prices in seconds."""
    return {stage: work.total(**asdict(prices)) / 3600 for stage, work in work_of(config).items()}


def work_of(config: RunConfig) -> dict[str, Work]:
    """Return the evaluations of every stage; steering counts as if no image left the loop early (an upper bound)."""
    steps, last = config.backbone.steps, config.capture.steps[-1]
    prompts = scenes_of(config) * len(PromptKind)
    images = images_of(config)
    inversion = config.inversion
    if inversion.method == "fixed-point":
        invert, capture = steps * (inversion.iterations + 1), last + 1
    else:
        free = 0 if inversion.eta == 1.0 else steps
        invert, capture = (
            (0 if inversion.gamma == 1.0 else steps) + free,
            len(config.capture.steps) if inversion.eta == 1.0 else last + 1,
        )
    classifiers = 1 + len(config.classifiers)
    updates = _updates(config.steering)
    sampled = scenes_of(config) * config.trajectories
    work = {
        **(
            {"invert": Work(forwards=prompts * invert), "capture": Work(forwards=prompts * capture)}
            if config.inverts
            else {}
        ),
        **(
            {"trajectories": Work(guided=sampled * steps, forwards=sampled * len(config.capture.steps))}
            if sampled
            else {}
        ),
        "sample plain": Work(guided=images * steps),
        "sample steered": Work(guided=images * classifiers * steps, gradients=images * classifiers * updates),
    }
    return {**work, **({"sample further methods": _method_work(config, images)} if config.methods else {})}


def _updates(steering: SteeringConfig) -> int:
    return steering.until_step * steering.updates


def _method_work(config: RunConfig, images: int) -> Work:
    """The methods' images; one that chooses among as many as steering's time allows counts as steering."""
    guided = forwards = gradients = 0
    for method in config.methods.values():
        candidates = 1
        if isinstance(method, SelectionMethod):
            candidates = method.n or 1
            forwards += images * candidates * len(config.capture.steps) * (method.kind == "best-of-n")
            gradients += 0 if method.n else images * _updates(config.steering)
        else:
            gradients += images * _updates(method.steering) if method.kind != "plain" else 0
        guided += images * candidates * config.backbone.steps
    return Work(forwards=forwards, guided=guided, gradients=gradients)


def scenes_of(config: RunConfig) -> int:
    """Number of scenes of a run."""
    return sum(len(part.chosen) * (part.train + part.val + part.test) for part in config.data.parts)


def images_of(config: RunConfig) -> int:
    """Number of benchmark images of one method."""
    return len(benchmark_items(config))


def disk_bytes(config: RunConfig, sizes: FileSizes) -> dict[str, int]:
    """Return the bytes each stage leaves on disk."""
    prompts = scenes_of(config) * len(PromptKind)
    maps = len(config.capture.steps) * OBJECTS * sizes.channels * config.capture.grid**2 * MAP_BYTES * PARQUET_SHARE
    targets = 2 if config.inversion.method == "rectified-flow" else 1
    pixels = 3 * sizes.side**2 * IMAGE_BYTES
    return {
        "scenes": scenes_of(config) * pixels,
        **(
            {"noise": prompts * sizes.latents * NOISE_BYTES * targets, "maps": int(prompts * maps)}
            if config.inverts
            else {}
        ),
        **({"trajectories": int(scenes_of(config) * config.trajectories * maps)} if config.trajectories else {}),
        "images": images_of(config) * (2 + len(config.classifiers) + len(config.methods)) * pixels,
    }


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
