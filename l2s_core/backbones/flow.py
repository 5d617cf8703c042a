"""The sampler of rectified-flow models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from l2s_core.diffusion.schedule import Schedule

if TYPE_CHECKING:
    from diffusers import FlowMatchEulerDiscreteScheduler


def euler_schedule(
    scheduler: FlowMatchEulerDiscreteScheduler,
    steps: int,
    *,
    tokens: int,
    even_sigmas: bool = False,
    mu: float | None = None,
) -> Schedule:
    """Return Euler steps at the sigmas of a FlowMatchEulerDiscreteScheduler for images of `tokens` tokens.

    With dz/dsigma = v one step is z + (sigma_next - sigma) v. The shift `mu` of the sigmas grows linearly
    with the number of tokens where the scheduler asks for it (Esser et al. 2024, section 5.3.2), or is the given one.
    `even_sigmas` spreads them from 1 to 1/steps before the shift, as FLUX's pipeline does.
    """
    options: dict[str, object] = (
        {"sigmas": np.linspace(1.0, 1 / steps, steps)} if even_sigmas else {"num_inference_steps": steps}
    )
    if scheduler.config.use_dynamic_shifting:
        options["mu"] = shift_of(scheduler.config, tokens) if mu is None else mu
    scheduler.set_timesteps(**options)
    sigmas = scheduler.sigmas.double().tolist()
    return Schedule(
        timesteps=tuple(sigmas[:-1]),
        keep=(1.0,) * steps,
        add=tuple(after - now for now, after in zip(sigmas, sigmas[1:], strict=False)),
    )


def shift_of(config: Any, tokens: int) -> float:
    """Return mu for a scheduler's settings.

    It is on the line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift).
    """
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    shift: float = config.base_shift + slope * (tokens - config.base_image_seq_len)
    return shift
