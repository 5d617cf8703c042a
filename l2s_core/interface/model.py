"""A text-to-image model and the classifier that steers it, as one callable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from l2s_core.backbones.model import DiffusersModel
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import RunConfig, SteeringConfig
from l2s_core.diffusion.sampler import Batch, Sampler
from l2s_core.diffusion.sampling import initial_noise
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.interface.pipelines import IN_MEMORY, require_gradient
from l2s_core.interface.result import Result
from l2s_core.interface.steerer import Steerer
from l2s_core.prompts.prompt import SeveralPrompt, parse_several
from l2s_core.steering.steering import Steering, steer_by

if TYPE_CHECKING:
    from torch import Tensor

    from l2s_core.classifier.experiment import ClassifierResult
    from l2s_core.evaluation.detectors.judge import Judge

Progress = Callable[[int, int], None]
"""(step that begins, steps) -> None."""


@dataclass(frozen=True)
class SteeredModel:
    """A backbone, the classifier that steers it, if there is one, and the settings of a configuration.

    `trained` is how the classifier was trained, where its folder tells.

    Use::

        model = l2s.load("mini-sd")
        result = model("a dog to the left of a cat", seeds=range(4))
        result.images[0].save("dog.png")
    """

    backbone: DiffusersModel
    classifier: TrainedClassifier | None
    run: RunConfig
    trained: ClassifierResult | None = None

    def __call__(
        self,
        prompt: str,
        seeds: Iterable[int] = (0,),
        *,
        images: int | None = None,
        generator: torch.Generator | None = None,
        steer: bool = True,
        steps: int | None = None,
        guidance: float | None = None,
        negative_prompt: str | None = None,
        control_image: Any = None,
        control_scale: float = 1.0,
        ip_adapter_image: Any = None,
        progress: Progress | None = None,
    ) -> Result:
        """Make one image of a prompt for each seed, steered to show the relations it states.

        images, generator: instead of seeds, how many images, their noise drawn from a generator.
        steer: False for plain images; they take the same noise.
        steps, guidance: of sampling, by default the configuration's. With other steps than the classifier was trained
            on, its captured steps and the steered ones keep their place in the schedule, rounded down.
        negative_prompt: what guidance leads away from, where the model has classifier-free guidance; by default the
            configuration's.
        control_image, control_scale, ip_adapter_image: what a pipeline's ControlNet and IP-Adapter are given, for
            all images, as its own calls take them; how strongly the ControlNet acts.
        progress: is told each step that begins.

        Raises UserError for a prompt whose relations cannot be read, and for steering without a classifier.
        """
        asked = self.read(prompt)
        noise = self._noise(list(seeds), images, generator)
        steps = steps or self.run.backbone.steps
        sampler = Sampler(
            backbone=self.backbone.given(control_image, ip_adapter_image, scale=control_scale),
            steps=steps,
            guidance=self.run.backbone.guidance if guidance is None else guidance,
            batch=self.run.batch,
            solver=self.run.backbone.solver,
            negative=self.run.backbone.negative if negative_prompt is None else negative_prompt,
        )
        observe: list[Callable[[Batch], Any]] = [self._steering(steps)] if steer else []
        if progress is not None:
            observe.append(lambda batch: _Told(progress, len(batch.schedule)))
        parts = [sampler.from_noise([asked] * len(part), part, *observe) for part in noise.split(self.run.batch)]
        steerings: tuple[Steering, ...] = tuple(part.observers[0] for part in parts) if steer else ()
        return Result(
            prompt=asked,
            pixels=torch.cat([part.images for part in parts]),
            noise=noise,
            steerings=steerings,
            sampler=sampler,
            judging=lambda: self.judge,
            min_score=self.run.benchmark.min_score,
            shown=self.shown,
        )

    def read(self, prompt: str) -> SeveralPrompt:
        """Return what a prompt asks for, as it is read; raises UserError for one that cannot be read."""
        return parse_several(prompt, self.run.data.attribute_words)

    @property
    def shown(self) -> dict[str, str]:
        """The objects that new tokens of the backbone are said to show, by token in small letters."""
        return {each.token.lower(): each.shows for each in self.run.backbone.textual_inversion if each.shows}

    def steerer(
        self,
        prompt: str,
        images: int = 1,
        *,
        steps: int | None = None,
        control_image: Any = None,
        control_scale: float = 1.0,
        ip_adapter_image: Any = None,
    ) -> Steerer:
        """Return the steering of a batch of images alone, for a denoising loop of one's own or of a pipeline.

        `steps` are those of that loop, and so are the images of a ControlNet and an IP-Adapter.
        """
        count = steps or self.run.backbone.steps
        backbone = self.backbone.given(control_image, ip_adapter_image, scale=control_scale)
        batch = Batch.of(backbone, [self.read(prompt)] * images, steps=count)
        return Steerer(backbone=self.backbone, steering=self._steering(count, predicts=False)(batch))

    def _steering(self, steps: int, *, predicts: bool = True) -> Callable[[Batch], Steering]:
        if self.classifier is None:
            raise UserError(
                "this model has no classifier to steer by; load it with classifier=…, or ask for steer=False"
            )
        source = self.classifier.source
        config = self.run.steering
        if self.backbone.files_fingerprint == IN_MEMORY:
            for network in self.backbone.differentiated:
                require_gradient(network)
            source = replace(source, backbone=IN_MEMORY)
        if steps != source.schedule_steps:
            config = _rescheduled(config, source.schedule_steps, steps)
            source = source.rescheduled(steps)
        return steer_by(replace(self.classifier, source=source), config, predicts=predicts)

    def _noise(self, seeds: list[int], images: int | None, generator: torch.Generator | None) -> Tensor:
        shape = self.backbone.latent_shape
        if generator is not None:
            count = len(seeds) if images is None else images
            return torch.randn((count, *shape), generator=generator, device=generator.device).cpu()
        if images is not None:
            seeds = list(range(images))
        if not seeds:
            raise UserError("no seeds are given; allowed: one or more whole numbers, as seeds=range(4)")
        return initial_noise(seeds, shape)

    @cached_property
    def judge(self) -> Judge:
        """The configuration's judge, loaded when first asked for; raises UserError where it is not there."""
        return load_judge(self.run.benchmark.judge, device=self.backbone.device)


@dataclass(frozen=True)
class _Told:
    """An observer that tells somebody of each step."""

    progress: Progress
    steps: int

    def __call__(self, latents: Tensor, step: int) -> Tensor:
        self.progress(step, self.steps)
        return latents


def _rescheduled(config: SteeringConfig, before: int, steps: int) -> SteeringConfig:
    """Return steering settings that end at the same place in a schedule of other length, after one step or more."""
    return config.model_copy(update={"until_step": max(1, config.until_step * steps // before)})
