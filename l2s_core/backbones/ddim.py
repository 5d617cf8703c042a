"""The sampler of models that predict noise or v."""

from __future__ import annotations

from typing import Any

from l2s_core.diffusion.schedule import Schedule
from l2s_core.errors import UserError


def ddim_schedule(scheduler: Any, steps: int) -> Schedule:
    """Return DDIM steps without added noise (Song et al. 2021, eq. 12) at a scheduler's own timesteps.

    Of the scheduler, one of diffusers' for such models, the noise schedule and the timesteps are used. Raises UserError
    for a model that predicts something else.
    """
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.tolist()
    stride = scheduler.config.num_train_timesteps // steps
    alphas = scheduler.alphas_cumprod.double()
    coefficients = []
    for t in timesteps:
        before = t - stride
        alpha_before = float(alphas[before] if before >= 0 else scheduler.final_alpha_cumprod)
        coefficients.append(_coefficients(float(alphas[t]), alpha_before, scheduler.config.prediction_type))
    keep, add = zip(*coefficients, strict=True)
    return Schedule(timesteps=tuple(timesteps), keep=keep, add=add)


def _coefficients(alpha: float, alpha_before: float, prediction_type: str) -> tuple[float, float]:
    """Coefficients (keep, add) of one DDIM step for the model's kind of prediction."""
    signal = alpha**0.5
    noise = (1 - alpha) ** 0.5
    signal_before = alpha_before**0.5
    noise_before = (1 - alpha_before) ** 0.5
    if prediction_type == "epsilon":
        return signal_before / signal, noise_before - signal_before * noise / signal
    if prediction_type == "v_prediction":
        return signal_before * signal + noise_before * noise, noise_before * signal - signal_before * noise
    raise UserError(f"prediction type {prediction_type!r} is not supported; allowed: epsilon, v_prediction")
