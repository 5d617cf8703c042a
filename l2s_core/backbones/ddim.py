"""The sampler of models that predict noise or v."""

from __future__ import annotations

from typing import Any

from l2s_core.diffusion.schedule import Schedule
from l2s_core.errors import UserError

SHORT = 0.1  # share of the noise that a schedule may leave out at its noisy end, where its steps are smaller than that


def ddim_schedule(scheduler: Any, steps: int) -> Schedule:
    """Return DDIM steps without added noise (Song et al. 2021, eq. 12) at a scheduler's own timesteps.

    Of the scheduler, a DDIMScheduler of diffusers, the noise schedule and the timesteps are used. A step ends where the
    next one begins. Raises UserError for a model that predicts something else, for a number of steps whose timesteps
    stop short of the noise that sampling begins with, and where noise is to be predicted in what has no signal left.
    """
    timesteps = _timesteps(scheduler, steps)
    alphas = scheduler.alphas_cumprod.double()
    alpha_T = [float(alphas[t]) for t in timesteps]
    ends = [*alpha_T[1:], float(scheduler.final_alpha_cumprod)]
    kind = scheduler.config.prediction_type
    keep, add = zip(*(_coefficients(*ends_of, kind) for ends_of in zip(alpha_T, ends, strict=True)), strict=True)
    return Schedule(timesteps=tuple(timesteps), keep=keep, add=add)


def _timesteps(scheduler: Any, steps: int) -> list[int]:
    """Return the scheduler's timesteps, falling; raises UserError where they do not go from noise to image."""
    trained = scheduler.config.num_train_timesteps
    timesteps = _spaced(scheduler, steps)
    if timesteps is None:
        fits = next((fewer for fewer in range(min(steps - 1, trained), 0, -1) if _spaced(scheduler, fewer)), None)
        raise UserError(
            f"backbone.steps is {steps}, for which the model's schedule ({scheduler.config.timestep_spacing}, "
            f"{trained} timesteps) does not reach the noise that sampling begins with; "
            + (f"the next smaller number for which it does is {fits}" if fits else "no number of steps does")
        )
    return timesteps


def _spaced(scheduler: Any, steps: int) -> list[int] | None:
    """Return the timesteps of a number of steps, None where they stop short of the noisy end.

    The library's "trailing" has one more, -1, where a sum of fractions falls a little short of 0, and "leading" with an
    offset and as many steps as timesteps has one above the last. "leading" takes equal whole steps from the image's
    end, which many small ones do not reach the other end with: 600 of 1000 are the timesteps 0 to 599.
    """
    trained = scheduler.config.num_train_timesteps
    if steps > trained:
        return None
    scheduler.set_timesteps(steps)
    timesteps: list[int] = scheduler.timesteps.tolist()[:steps]
    above = max(0, timesteps[0] - (trained - 1))
    missing = trained - 1 - timesteps[0]
    if missing > max(2 * (trained // steps), SHORT * trained):
        return None
    return [timestep - above for timestep in timesteps]


def _coefficients(alpha: float, alpha_before: float, prediction_type: str) -> tuple[float, float]:
    """Coefficients (keep, add) of one DDIM step for the model's kind of prediction."""
    if prediction_type == "epsilon" and alpha == 0:
        raise UserError(
            "the model's schedule ends in noise without any signal (rescale_betas_zero_snr), in which noise cannot be "
            "predicted; set prediction_type in scheduler_config.json to what the model was trained for"
        )
    signal = alpha**0.5
    noise = (1 - alpha) ** 0.5
    signal_before = alpha_before**0.5
    noise_before = (1 - alpha_before) ** 0.5
    if prediction_type == "epsilon":
        return signal_before / signal, noise_before - signal_before * noise / signal
    if prediction_type == "v_prediction":
        return signal_before * signal + noise_before * noise, noise_before * signal - signal_before * noise
    raise UserError(f"prediction type {prediction_type!r} is not supported; allowed: epsilon, v_prediction")
