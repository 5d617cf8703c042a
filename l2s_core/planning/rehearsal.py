"""A few images through every stage of a run's model, timed: what the full run will cost, known before it is run.

The model has its real architecture and size (or the tiny one) and random weights, or, where a run
names no architecture, the weights it would really use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from l2s_core.backbones.architecture import Scale, load_architecture, random_backbone
from l2s_core.backbones.base import Backbone
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
from l2s_core.planning.estimate import stage_hours
from l2s_core.planning.measured import Measured, Rehearsal, prices_of
from l2s_core.planning.memory import PeakMemory
from l2s_core.steering.steering import steer_by

STEPS = 4  # sampling steps of a rehearsal; costs a step do not depend on their number


def priced_settings(config: RunConfig) -> str:
    """Return a digest of what a rehearsal's figures are of: the model and what is captured of it.

    The figures are a step's, so the number of steps is left out.
    """
    return digest([part.model_dump(mode="json", exclude={"steps"}) for part in (config.backbone, config.capture)])


def rehearse(config: RunConfig, *, scale: Scale = "full", images: int = 2, device: str = "cpu") -> Rehearsal:
    """Run every stage's operations on `images` images at once and return what they took, and what the run would take.

    Raises UserError where the run names neither an architecture nor a model that is there.
    """
    memory = PeakMemory(device)
    began = time.perf_counter()
    with memory:
        backbone = _backbone(config, scale, device)
    load = Measured(operation="load", unit="model", seconds=time.perf_counter() - began, peak_bytes=memory.peak)
    measured = (load, *_measure(config, _Bench(backbone=backbone, images=images, memory=memory)))
    return Rehearsal(
        name=config.name,
        settings=priced_settings(config),
        scale=scale,
        device=device_name(device),
        dtype=config.backbone.dtype,
        images=images,
        weights=sum(weight_bytes(backbone).values()),
        random=config.backbone.architecture is not None,
        measured=measured,
        hours=stage_hours(config, prices_of(measured)) if scale == "full" else {},
    )


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


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """Times operations on a batch of `images` images of a backbone."""

    backbone: DiffusersModel
    images: int
    memory: PeakMemory

    def time(self, operation: str, unit: str, run: Callable[[], object], *, units: int = 1) -> Measured:
        """Return what `run`, which makes `units` units an image, takes for one of them."""
        run()  # warm up: kernels are chosen and memory is taken once
        _wait(self.backbone.device)
        with self.memory:
            start = time.perf_counter()
            run()
            _wait(self.backbone.device)
            seconds = time.perf_counter() - start
        return Measured(
            operation=operation, unit=unit, seconds=seconds / self.images / units, peak_bytes=self.memory.peak
        )


def _measure(config: RunConfig, bench: _Bench) -> list[Measured]:
    """Return the rows of every stage's operations."""
    pictures = np.random.default_rng(0).integers(0, 255, (bench.images, *bench.backbone.image_sides, 3), np.uint8)
    return [*_encoding(bench, pictures), _inversion(config, bench, pictures), *_denoising(config, bench)]


def _encoding(bench: _Bench, pictures: np.ndarray) -> list[Measured]:
    texts = [PROMPT.text] * bench.images
    return [
        bench.time("encode prompt", "image", lambda: bench.backbone.encode_prompts(texts)),
        bench.time("encode image", "image", lambda: bench.backbone.encode_images(pictures)),
    ]


def _inversion(config: RunConfig, bench: _Bench, pictures: np.ndarray) -> Measured:
    scenes = [Scene(image_id=f"r{i}", split="train", image=p, triplet=PROMPT.triplet) for i, p in enumerate(pictures)]

    def invert() -> object:
        return invert_scenes(bench.backbone, scenes, config.inversion, steps=STEPS, batch=bench.images)

    return bench.time("invert", "step", invert, units=STEPS)


def _denoising(config: RunConfig, bench: _Bench) -> list[Measured]:
    """Return the rows of a step with capture, plain, with guidance and steered, and of decoding."""
    backbone: Backbone = bench.backbone
    prompts = [PROMPT] * bench.images
    noise = initial_noise(list(range(bench.images)), backbone.latent_shape, backbone.device, backbone.latents_dtype)
    batch = Batch.of(backbone, prompts, steps=STEPS, guidance=config.backbone.guidance)
    schedule = batch.schedule
    condition = batch.condition
    weights_BOK = backbone.phrase_weights(prompts)
    classifier = _untrained_classifier(config, backbone)
    reader = classifier.source.reader(backbone)
    once = config.steering.model_copy(update={"until_step": 1, "updates": 1, "confidence": None, "min_loss": 0.0})
    steer = steer_by(classifier, once)(batch)

    @torch.no_grad()
    def captured() -> object:
        return reader.read_and_predict(noise, schedule.timesteps[1], condition, weights_BOK)

    @torch.no_grad()
    def plain() -> object:
        return backbone.predict(noise, schedule.timesteps[1], condition.unguided())

    return [
        bench.time("capture", "step", captured),
        bench.time("plain step", "step", plain),
        bench.time("guided step", "step", lambda: sample(backbone, noise, condition, schedule), units=STEPS),
        bench.time("steering gradient", "update", lambda: steer(noise, 0)),
        bench.time("decode", "image", lambda: backbone.decode(noise)),
    ]


def _untrained_classifier(config: RunConfig, backbone: Backbone) -> TrainedClassifier:
    """Return a classifier of the run's settings with random weights: it costs what a trained one does."""
    capture = config.capture.model_copy(update={"steps": (1, STEPS - 1)})
    source = map_source(backbone, capture, STEPS, config.data.labels)
    model = build_classifier(config.classifier, source).to(backbone.device).eval().requires_grad_(False)
    return TrainedClassifier(model=model, config=config.classifier, source=source)


def device_name(device: str) -> str:
    """Return a name of the device that a person knows."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
