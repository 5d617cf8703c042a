"""Solvers of higher order that diffusers has, beside the one-step sampler of a family."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from l2s_core.diffusion.schedule import Sampling

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {"solver_order": 2}),
}
"""Solver -> its class in diffusers, and settings (Lu et al. 2022, arXiv 2211.01095; Zhao et al. 2023, 2302.04867)."""


def solver_of(scheduler: Any, name: str, steps: int) -> Sampling:
    """Return `steps` steps of a solver on the noise schedule of a model's scheduler, without added noise.

    A timestep is the scheduler's; of a flow it is sigma, in [0, 1].
    """
    kind, settings = KINDS[name]
    made = getattr(import_module("diffusers"), kind).from_config(scheduler.config, **settings)
    return LibrarySolver(made, steps)


class LibrarySolver:
    """A multistep scheduler of diffusers as the denoising loop asks it."""

    def __init__(self, scheduler: Any, steps: int) -> None:
        self._scheduler = scheduler
        self._steps = steps
        scheduler.set_timesteps(steps)
        flow = getattr(scheduler.config, "use_flow_sigmas", False)
        times = scheduler.sigmas[:-1] if flow else scheduler.timesteps
        self.timesteps: tuple[float, ...] = tuple(times.tolist())

    def __len__(self) -> int:
        return self._steps

    def begin(self, latents: Tensor) -> LibrarySolver:
        """Forget the trajectory before."""
        self._scheduler.set_timesteps(self._steps, device=latents.device)
        return self

    def advance(self, latents: Tensor, prediction: Tensor, step: int) -> Tensor:
        """One denoising step, which follows the one before it."""
        exact = torch.promote_types(latents.dtype, torch.float32)
        after = self._scheduler.step(
            prediction.to(exact), self._scheduler.timesteps[step], latents.to(exact), return_dict=False
        )
        return after[0].to(latents.dtype)
