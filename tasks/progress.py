"""How far the parts of a stage are: told by the thread that works on them, read by the one that waits for it.

A model needs no callback for it: a hook on the denoiser counts its evaluations. Other work tells for itself. What a
worker in another process tells stays there; of its parts the files are seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from l2s_core.planning.pace import GRADIENT


@dataclass
class Told:
    """What is told of a part: units of its work that are done, and of its images that are judged how many are right."""

    units: float = 0.0
    right: int = 0
    judged: int = 0


_told: dict[str, dict[str, Told]] = {}  # by the token of a stage, then by part
_part: ContextVar[Told | None] = ContextVar("part", default=None)


@contextmanager
def telling(token: str, part: str) -> Iterator[None]:
    """Let the work of the block count for a part of a stage; a part that is begun again counts anew."""
    told = _told.setdefault(token, {})[part] = Told()
    reset = _part.set(told)
    try:
        yield
    finally:
        _part.reset(reset)


def advance(units: float) -> None:
    """Tell that so many units of the part's work are done; outside of a part nobody is told."""
    told = _part.get()
    if told is not None:
        told.units += units


def judged(right: int, images: int) -> None:
    """Tell how many of a part's images are right."""
    told = _part.get()
    if told is not None:
        told.right += right
        told.judged += images


def told_of(token: str) -> dict[str, Told]:
    """Return what was told of each part of a stage that was begun in this process."""
    return dict(_told.get(token, {}))


def forget(token: str) -> None:
    """Forget a stage that is over."""
    _told.pop(token, None)


def count_evaluations(denoiser: nn.Module) -> None:
    """Have a denoiser tell its evaluations, one for each row of a batch; one with a way back is GRADIENT of them."""
    denoiser.register_forward_pre_hook(_evaluated, with_kwargs=True)


def _evaluated(_denoiser: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    rows = next(
        (len(value) for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor) and value.ndim), 0
    )
    advance(rows * (GRADIENT if torch.is_grad_enabled() else 1.0))
