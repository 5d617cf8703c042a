"""SANA-Sprint: SANA distilled to a few steps, which predict the image and noise it afresh."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from l2s_core.backbones.component import DiffusersNetwork, Scheduler
from l2s_core.backbones.sana import SanaBackbone
from l2s_core.diffusion.condition import Condition, TextEncoding, guided
from l2s_core.diffusion.schedule import Sampling, Schedule, exactly
from l2s_core.errors import UserError
from l2s_core.hashing import stable_seed

FIRST = 1.57080  # angle of the first step, as published; pi / 2 is noise alone
SECOND = 1.3  # angle of the second of two steps


class SanaSprintBackbone(SanaBackbone):
    """Adapter over diffusers' SanaTransformer2DModel with the guidance as an input: SANA-Sprint (arXiv 2503.09641).

    The model was trained along angles t, z = cos(t) x0 + sin(t) noise. In the flow's terms, sigma = sin(t) / (cos(t) +
    sin(t)) and latents (1 - sigma) x0 + sigma noise, it predicts the velocity noise - x0 of a straight line. A step
    takes this line to the image, and noises it afresh for the next one (`Renoising`), as the SCM scheduler does.

    No noise leads back to a given image so. To invert a scene is to noise it: inversion.method rectified-flow with
    gamma and eta of 1, which gives latents of the very kind that sampling goes through. Every other inversion follows a
    path that is never sampled, and is refused; classifiers can learn from trajectories, too.
    """

    COMPONENTS = {
        **SanaBackbone.COMPONENTS,
        "transformer": DiffusersNetwork(name="SanaTransformer2DModel", stating={"guidance_embeds": True}),
        "scheduler": Scheduler(name="SCMScheduler"),
    }
    RENOISES = True

    @property
    def classifier_free(self) -> bool:
        return False

    def from_pipeline(self, latents: Tensor) -> NoReturn:
        """Raise UserError: latents of the pipeline's loop are of a scale that changes with every step."""
        raise UserError(
            "the loop of SanaSprintPipeline noises latents afresh at every step and cannot be steered from outside; "
            "call the model that l2s.load gives instead"
        )

    @classmethod
    def solvers(cls) -> tuple[str, ...]:
        return ()

    def schedule(self, steps: int) -> Schedule:
        """The straight line to the image by Euler steps, at the noise levels of `sampling`: it noises scenes."""
        levels = self._levels(steps)
        changes = tuple(after - now for now, after in zip(levels, levels[1:], strict=False))
        return Schedule(timesteps=levels[:-1], keep=(1.0,) * steps, add=changes)

    def sampling(self, steps: int, solver: str | None = None) -> Sampling:
        """Return the pipeline's steps, at its own angles."""
        return Renoising(levels=self._levels(steps))

    def _levels(self, steps: int) -> tuple[float, ...]:
        scheduler = self.parts["scheduler"]
        scheduler.set_timesteps(steps, max_timesteps=FIRST, intermediate_timesteps=SECOND if steps == 2 else None)
        angles = scheduler.timesteps.double().tolist()
        return tuple(math.sin(t) / (math.cos(t) + math.sin(t)) for t in angles)

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The velocity noise - x0; `timestep` is sigma in [0, 1]."""
        return guided(lambda z, text: self._guided_velocity(z, timestep, text, condition.guidance), latents, condition)

    def _guided_velocity(self, latents: Tensor, sigma: float, text: TextEncoding, guidance: float | None) -> Tensor:
        transformer = self.use("transformer")
        scaled = (guidance or 0.0) * transformer.config.guidance_embeds_scale
        predicted: Tensor = transformer(
            latents.to(transformer.dtype),
            encoder_hidden_states=text.context_BKD,
            encoder_attention_mask=text.mask_BK,
            guidance=text.context_BKD.new_full((len(latents),), scaled),
            timestep=torch.full((len(latents),), sigma, device=latents.device),
            return_dict=False,
        )[0]
        return predicted.to(latents.dtype)


@dataclass(frozen=True)
class Renoising:
    """Multistep consistency sampling (Song et al. 2023, arXiv 2303.01469, algorithm 1) along a flow.

    `levels` are the sigmas between the steps, the noisy one first, 0 last. The fresh noise of an image comes from
    generators that its first noise seeds, so it depends on that noise and the step alone.
    """

    levels: tuple[float, ...]
    seeds: tuple[int, ...] = ()

    @property
    def timesteps(self) -> tuple[float, ...]:
        """The sigmas at which the model is asked."""
        return self.levels[:-1]

    def __len__(self) -> int:
        return len(self.levels) - 1

    def begin(self, latents: Tensor) -> Renoising:
        """Return the sampler of the images that begin with `latents` (B, C, h, w)."""
        first = latents.float().cpu().numpy()
        return replace(self, seeds=tuple(stable_seed(image.tobytes().hex()) for image in first))

    def advance(self, latents: Tensor, prediction: Tensor, step: int) -> Tensor:
        """Go to the image, and from it to the next noise level."""
        image = exactly(latents) - self.levels[step] * exactly(prediction)
        after = self.levels[step + 1]
        if after == 0:
            return image.to(latents.dtype)
        return ((1 - after) * image + after * self.fresh(image, step)).to(latents.dtype)

    def fresh(self, like: Tensor, step: int) -> Tensor:
        """The noise after a step, of the shape and type of `like`."""
        draws = [
            torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(stable_seed(seed, step)))
            for seed in self.seeds
        ]
        return torch.stack(draws).to(like)
