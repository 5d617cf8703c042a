"""Guidance distillation (Meng et al. 2023, section 3.1) for the small flow model, at one guidance.

The student learns the velocity that its teacher has under classifier-free guidance, on noised scenes, so
that one evaluation a step does what took the teacher two: what FLUX.1-dev is to its teacher.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from l2s_core.backbones.flux import pack
from l2s_core.diffusion.condition import TextEncoding
from l2s_core.miniworld.training.denoiser import products_in_bfloat16
from l2s_core.miniworld.training.flow import SceneBatches, stratified, velocity

NOISY = 1.5  # above 1: more of the levels near pure noise, where objects are decided


@dataclass(frozen=True, kw_only=True)
class DistillationLoss:
    """Mean squared error to the teacher's guided velocity e + guidance (c - e).

    c is the velocity under the caption, e the one under the empty caption. `bfloat16` is as in `DenoiserLoss`.
    """

    batches: SceneBatches
    teacher: nn.Module
    empty: TextEncoding
    guidance: float
    bfloat16: bool = False

    def __call__(self, model: nn.Module, step: int) -> Tensor:
        x0, text = self.batches(step)
        z_BPC = pack(x0)
        noise_BPC = pack(torch.randn_like(x0))
        sigma_B = 1 - (1 - stratified(len(x0)).to(x0)) ** NOISY
        z_BPC = torch.lerp(z_BPC, noise_BPC, sigma_B.view(-1, 1, 1))
        with products_in_bfloat16(x0.device.type, asked=self.bfloat16):
            learned = velocity(model, z_BPC, sigma_B, text)
            taught = self._guided(z_BPC, sigma_B, text)
        return nn.functional.mse_loss(learned, taught)

    @torch.no_grad()
    def _guided(self, z_BPC: Tensor, sigma_B: Tensor, text: TextEncoding) -> Tensor:
        empty = TextEncoding(
            context_BKD=self.empty.context_BKD.expand_as(text.context_BKD),
            pooled_BD=self.empty.pooled.expand_as(text.pooled),
        )
        under_caption = velocity(self.teacher, z_BPC, sigma_B, text)
        under_empty = velocity(self.teacher, z_BPC, sigma_B, empty)
        return torch.lerp(under_empty, under_caption, self.guidance)
