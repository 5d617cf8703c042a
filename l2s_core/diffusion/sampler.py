"""From prompts and seeds to images, in batches, with observers in the denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from l2s_core.config import RunConfig
from l2s_core.diffusion.condition import Condition
from l2s_core.diffusion.denoiser import Denoiser
from l2s_core.diffusion.sampling import Observer, initial_noise, sample
from l2s_core.diffusion.schedule import Sampling
from l2s_core.prompts.prompt import Phrases

Model = TypeVar("Model", bound=Denoiser)
Watcher = TypeVar("Watcher", bound=Observer, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Batch(Generic[Model]):
    """What is sampled together: the model, the prompts, their condition, the schedule. Observers are built from it."""

    backbone: Model
    prompts: Sequence[Phrases]
    condition: Condition
    schedule: Sampling

    @classmethod
    def of(
        cls,
        backbone: Model,
        prompts: Sequence[Phrases],
        *,
        steps: int,
        guidance: float | None = None,
        negative: str = "",
        solver: str | None = None,
    ) -> Batch[Model]:
        """Encode the prompts, and the negative one, for `steps` steps of a solver, by default the model's own."""
        schedule = backbone.sampling(steps, solver)
        texts = [prompt.text for prompt in prompts]
        condition = backbone.encode_prompts(texts, guidance=guidance, negative=negative)
        return cls(backbone=backbone, prompts=prompts, condition=condition, schedule=schedule)

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, kw_only=True)
class Sampled(Generic[Watcher]):
    """uint8 images (N, H, W, 3), which of the prompts they are of, and the observers that were built for them."""

    images: Tensor
    rows: slice
    observers: tuple[Watcher, ...]


@dataclass(frozen=True, kw_only=True)
class Sampler(Generic[Model]):
    """Samples one image per (prompt, seed), `batch` at a time.

    `observe` are callables that build an observer from a `Batch`: what steers, records or scores. The observers are
    called before each denoising step, in the order given. An image depends on its own prompt and seed alone, to
    rounding: batch mates only change the order of floating-point sums.

    Use::

        steer = partial(Steering, objective=objective, config=config)
        for sampled in sampler.batches(prompts, seeds, steer):
            sampled.images, sampled.observers[0].cost
    """

    backbone: Model
    steps: int
    guidance: float
    batch: int
    negative: str = ""
    solver: str | None = None

    @classmethod
    def of(cls, backbone: Model, config: RunConfig) -> Sampler[Model]:
        """The sampler that a run's configuration asks for."""
        settings = config.backbone
        return cls(
            backbone=backbone,
            steps=settings.steps,
            guidance=settings.guidance,
            batch=config.batch,
            negative=settings.negative,
            solver=settings.solver,
        )

    def __call__(
        self, prompts: Sequence[Phrases], seeds: Sequence[int], *observe: Callable[[Batch[Model]], Watcher]
    ) -> Sampled[Watcher]:
        """Sample all of the prompts as one batch, however many they are."""
        return self.from_noise(prompts, initial_noise(seeds, self.backbone.latent_shape), *observe)

    def from_noise(
        self, prompts: Sequence[Phrases], noise: Tensor, *observe: Callable[[Batch[Model]], Watcher]
    ) -> Sampled[Watcher]:
        """Sample the prompts as one batch from latents (B, C, h, w) of pure noise."""
        batch = Batch.of(
            self.backbone,
            prompts,
            steps=self.steps,
            guidance=self.guidance,
            negative=self.negative,
            solver=self.solver,
        )
        latents = noise.to(self.backbone.device, self.backbone.latents_dtype)
        observers = tuple(build(batch) for build in observe)
        latents = sample(self.backbone, latents, batch.condition, batch.schedule, observers)
        images = torch.from_numpy(self.backbone.decode(latents))
        return Sampled(images=images, rows=slice(0, len(prompts)), observers=observers)

    def batches(
        self, prompts: Sequence[Phrases], seeds: Sequence[int], *observe: Callable[[Batch[Model]], Watcher]
    ) -> Iterator[Sampled[Watcher]]:
        """Sample the prompts in their order, `batch` at a time."""
        for first in range(0, len(prompts), self.batch):
            rows = slice(first, min(first + self.batch, len(prompts)))
            sampled = self(prompts[rows], seeds[rows], *observe)
            yield Sampled(images=sampled.images, rows=rows, observers=sampled.observers)
