"""What a call of a steered model gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from l2s_core.diffusion.sampler import Sampler
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.judging import Judging
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.several import Several
from l2s_core.prompts.prompt import SeveralPrompt, renamed
from l2s_core.report.grids import comparison_grid
from l2s_core.steering.steering import Steering
from l2s_core.steering.targets import Targets


@dataclass(frozen=True)
class Result:
    """Images of one prompt, with what they cost; plain ones from the same noise, and verdicts, are made when asked for.

    `prompt` is the prompt as it was read, `pixels` uint8 (N, H, W, 3), `noise` (N, C, h, w) what they began from.
    `shown` has what a judge is asked for instead of words in the names of objects.
    """

    prompt: SeveralPrompt
    pixels: Tensor
    noise: Tensor
    steerings: tuple[Steering, ...]
    sampler: Sampler
    judging: Callable[[], Judge]
    min_score: float
    shown: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def relations(self) -> int:
        """How many different relations the prompt states."""
        return len(Targets.of([self.prompt]).label_P)

    @property
    def images(self) -> list[Image.Image]:
        """The images, as PIL has them."""
        return [Image.fromarray(pixels) for pixels in self.pixels.numpy()]

    @cached_property
    def plain_pixels(self) -> Tensor:
        """The images without steering, from the same noise, uint8 (N, H, W, 3)."""
        if not self.steerings:
            return self.pixels
        parts = self.noise.split(self.sampler.batch)
        return torch.cat([self.sampler.from_noise([self.prompt] * len(part), part).images for part in parts])

    @property
    def plain(self) -> list[Image.Image]:
        """The images without steering, from the same noise; sampled when first asked for."""
        return [Image.fromarray(pixels) for pixels in self.plain_pixels.numpy()]

    @property
    def gradients(self) -> list[int]:
        """Evaluations of the steering gradient, an image."""
        if not self.steerings:
            return [0] * len(self)
        return [int(count) for steering in self.steerings for count in steering.cost.gradients]

    @cached_property
    def confidence(self) -> np.ndarray:
        """What the classifier gave the wanted relations, (N, T, R) in [0, 1]: see `Steering.confidence`.

        Empty for images that were not steered.
        """
        if not self.steerings:
            return np.zeros((len(self), 0, self.relations))
        return np.concatenate([steering.confidence() for steering in self.steerings])

    def judge(self, *, plain: bool = False) -> list[JudgedImage]:
        """Return what the configuration's judge finds in each image, and whether that is what the prompt asks for.

        `plain` judges the images without steering. Attributes are not judged. Raises UserError where the judge is not
        there, or does not know an object.
        """
        return self._plain_judged if plain else self._judged

    @cached_property
    def _judged(self) -> list[JudgedImage]:
        return self._verdicts(self.pixels)

    @cached_property
    def _plain_judged(self) -> list[JudgedImage]:
        return self._verdicts(self.plain_pixels)

    def _verdicts(self, pixels: Tensor) -> list[JudgedImage]:
        judge = self.judging()
        prompt = renamed(self.prompt, self.shown)
        items = [
            EvalItem(item_id=str(number), prompt_group="", prompt=prompt, seed=number) for number in range(len(self))
        ]
        judge.require(items[0].objects)
        judging = Judging(protocol=Several(prompts=1, min_score=self.min_score), judge=judge)
        return judging.judge_images(items, pixels)

    def comparison(self) -> Image.Image:
        """Return one picture: plain beside steered, with the judge's boxes and verdicts."""
        pixels = {"plain": self.plain_pixels, "steered": self.pixels}
        verdicts = {"plain": self.judge(plain=True), "steered": self.judge()}
        return comparison_grid({name: list(images.numpy()) for name, images in pixels.items()}, verdicts)
