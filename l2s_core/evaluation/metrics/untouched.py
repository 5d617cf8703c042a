"""Which images a method left alone, and how much it changed the others. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from l2s_core.diffusion.inversion import psnr


@dataclass(frozen=True, kw_only=True)
class Untouched:
    """Pair by pair `identical`, bit for bit; `psnr` is the mean of those that are not, dB, None where all are."""

    identical: tuple[bool, ...]
    psnr: float | None


def untouched(images: np.ndarray, others: np.ndarray) -> Untouched:
    """Compare two sets of uint8 images (N, H, W, 3) in the same order.

    Raises ValueError for sets of different shape, without images, or of another type.
    """
    if images.shape != others.shape or images.ndim != 4 or not len(images):
        raise ValueError(
            f"pairs need two sets of images (N, H, W, 3) of one shape; got {images.shape} and {others.shape}"
        )
    if {images.dtype, others.dtype} != {np.dtype(np.uint8)}:
        raise ValueError(f"images must be uint8; got {images.dtype} and {others.dtype}")
    same_N = (images == others).all((1, 2, 3))
    changed = ~same_N
    mean = (
        psnr(*(torch.from_numpy(part[changed]) for part in (images, others))).mean().item() if changed.any() else None
    )
    return Untouched(identical=tuple(same_N.tolist()), psnr=mean)
