"""What making images costs, counted in evaluations of the denoiser."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What one evaluation of an image costs: seconds, or floating-point operations."""

    forward: float
    guided: float
    gradient: float


@dataclass(frozen=True, kw_only=True)
class Work:
    """Evaluations of the denoiser, of one image each: alone, with guidance, and with a steering gradient."""

    forwards: int = 0
    guided: int = 0
    gradients: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            forwards=self.forwards + other.forwards,
            guided=self.guided + other.guided,
            gradients=self.gradients + other.gradients,
        )

    def times(self, count: int) -> Work:
        """Return the work of as many."""
        return Work(forwards=count * self.forwards, guided=count * self.guided, gradients=count * self.gradients)

    def total(self, prices: Prices) -> float:
        """Return what this comes to."""
        return self.forwards * prices.forward + self.guided * prices.guided + self.gradients * prices.gradient
