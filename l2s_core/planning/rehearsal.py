"""A few images through every stage of a run's model, timed: what the full run will cost, known before it is run.

The model has its real architecture and size (or the tiny one) and random weights, or, where a run
names no architecture, the weights it would really use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from l2s_core.backbones.architecture import Scale, load_architecture, random_backbone
from l2s_core.backbones.load import load_backbone, placement_of, require_fit
from l2s_core.backbones.model import DiffusersModel
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.model import build_classifier
from l2s_core.config import RunConfig
from l2s_core.data.scenes import Scene
from l2s_core.dataset.collect import map_source
from l2s_core.diffusion.noise import invert_scenes
from l2s_core.diffusion.sampler import Batch
from l2s_core.diffusion.sampling import initial_noise, sample
from l2s_core.errors import UserError
from l2s_core.hashing import digest
from l2s_core.planning.cost import PROMPT, weight_bytes
from l2s_core.planning.estimate import prices_of, work_of
from l2s_core.planning.memory import PeakMemory
from l2s_core.steering.steering import steer_by

STEPS = 4  # sampling steps of a rehearsal; costs a step do not depend on their number


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One operation: seconds an image (of a batch), and the peak of memory while it ran, bytes."""

    operation: str
    unit: str
    seconds: float
    peak_bytes: int


def priced_settings(config: RunConfig) -> str:
    """Return a digest of what a rehearsal's figures are of: the model and what is captured of it; they are a step's, so not the steps."""
    return digest([part.model_dump(mode="json", exclude={"steps"}) for part in (config.backbone, config.capture)])


def rehearse(config: RunConfig, *, scale: Scale = "full", images: int = 2, device: str = "cpu") -> dict[str, Any]:
    """Run every stage's operations on `images` images at once and return what they took, and what the run would take.

    Raises UserError where the run names neither an architecture nor a model that is there.
    """
    memory = PeakMemory(device)
    began = time.perf_counter()
    with memory:
        backbone = _backbone(config, scale, device)
    rows = [Measured(operation="load", unit="model", seconds=time.perf_counter() - began, peak_bytes=memory.peak)]
    rows += _measure(config, backbone, images, memory)
    measured = [asdict(row) for row in rows]
    prices = prices_of(measured)
    hours = {stage: work.total(**prices) / 3600 for stage, work in work_of(config).items()}
    return {
        "name": config.name,
        "settings": priced_settings(config),
        "scale": scale,
        "device": device_name(device),
        "dtype": config.backbone.dtype,
        "images": images,
        "weights": sum(weight_bytes(backbone).values()),
        "random": config.backbone.architecture is not None,
        "measured": measured,
        "hours": hours if scale == "full" else {},
    }


def _backbone(config: RunConfig, scale: Scale, device: str) -> DiffusersModel:
    require_fit(config)
    settings = config.backbone
    if settings.architecture is None:
        if scale == "tiny":
            raise UserError(
                f"--scale tiny needs backbone.architecture, and {settings.model} has none; rehearse it at full size"
            )
        return load_backbone(settings, device)
    size = settings.size if scale == "full" else None
    return random_backbone(
        load_architecture(settings.architecture), scale, size=size, placement=placement_of(settings, device)
    )


def _measure(config: RunConfig, backbone: DiffusersModel, images: int, memory: PeakMemory) -> list[Measured]:
    prompts, rows = [PROMPT] * images, []
    noise = initial_noise(list(range(images)), backbone.latent_shape, backbone.device)
    pictures = np.random.default_rng(0).integers(
        0, 255, (images, backbone.image_side, backbone.image_side, 3), np.uint8
    )
    scenes = [Scene(image_id=f"r{i}", split="train", image=p, triplet=PROMPT.triplet) for i, p in enumerate(pictures)]
    texts = [prompt.text for prompt in prompts]
    batch = Batch.of(backbone, prompts, steps=STEPS, guidance=config.backbone.guidance)
    schedule = batch.schedule
    condition = batch.condition
    weights_BOK = backbone.phrase_weights(prompts)
    capture = config.capture.model_copy(update={"steps": (1, STEPS - 1)})
    source = map_source(backbone, capture, STEPS, config.data.labels)
    reader = source.reader(backbone)
    classifier = TrainedClassifier(
        model=build_classifier(config.classifier, source).to(backbone.device).eval().requires_grad_(False),
        config=config.classifier,
        source=source,
    )
    once = config.steering.model_copy(update={"until_step": 1, "updates": 1, "confidence": None, "min_loss": 0.0})
    steer = steer_by(classifier, once)(batch)

    def measure(operation: str, unit: str, run: Callable[[], object], per: int = 1) -> None:
        run()  # warm up: kernels are chosen and memory is taken once
        _wait(backbone.device)
        with memory:
            start = time.perf_counter()
            run()
            _wait(backbone.device)
            seconds = time.perf_counter() - start
        rows.append(Measured(operation=operation, unit=unit, seconds=seconds / images / per, peak_bytes=memory.peak))

    @torch.no_grad()
    def captured() -> None:
        reader.read_and_predict(noise, schedule.timesteps[1], condition, weights_BOK)

    def steered() -> None:
        steer(noise, 0)

    @torch.no_grad()
    def plain() -> None:
        backbone.predict(noise, schedule.timesteps[1], condition.unguided())

    measure("encode prompt", "image", lambda: backbone.encode_prompts(texts))
    measure("encode image", "image", lambda: backbone.encode_images(pictures))
    measure(
        "invert",
        "step",
        lambda: invert_scenes(backbone, scenes, config.inversion, steps=STEPS, batch=images),
        per=2 * STEPS,
    )
    measure("capture", "step", captured)
    measure("plain step", "step", plain)
    measure("guided step", "step", lambda: sample(backbone, noise, condition, schedule), per=STEPS)
    measure("steering gradient", "update", steered)
    measure("decode", "image", lambda: backbone.decode(noise))
    return rows


def device_name(device: str) -> str:
    """Return a name of the device that a person knows."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
