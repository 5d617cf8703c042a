"""The Kernel Inception Distance of two sets of features (Bińkowski et al. 2018, arXiv 1801.01401). Pure.

It is the squared maximum mean discrepancy under the kernel k(x, y) = (x·y / D + 1)^3: 0 for two sets of one
distribution, larger the further they are apart, and without the bias for few images that FID has. It has no unit;
values compare only between features of the same network.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

DEGREE = 3
SUBSETS = 200
SEED = 0
MIN_IMAGES = 4  # of a set whose halves are drawn


@dataclass(frozen=True, kw_only=True)
class KID:
    """A mean over subsets and its standard error, from `subsets` draws of `subset_size` images each."""

    mean: float
    error: float
    subset_size: int
    subsets: int


def polynomial_kernel(x_ND: np.ndarray, y_MD: np.ndarray) -> np.ndarray:
    """Return k_NM = (x·y / D + 1)^3 in float64."""
    x_ND = np.asarray(x_ND, np.float64)
    y_MD = np.asarray(y_MD, np.float64)
    kernel_NM: np.ndarray = (x_ND @ y_MD.T / x_ND.shape[1] + 1) ** DEGREE
    return kernel_NM


def squared_mmd(x_ND: np.ndarray, y_MD: np.ndarray) -> float:
    """Return the unbiased estimate of MMD² from all images (Gretton et al. 2012, equation 3); it may be below 0.

    Raises ValueError for sets of fewer than two images, of different features, or with values that are not finite.
    """
    _check(x_ND, y_MD)
    everything = (np.ones((len(features), 1)) for features in (x_ND, y_MD))
    return float(_mmd_S(x_ND, y_MD, *everything)[0])


def kid(
    x_ND: np.ndarray, y_MD: np.ndarray, *, subset_size: int | None = None, subsets: int = SUBSETS, seed: int = SEED
) -> KID:
    """Return the KID of two sets; memory grows with (N + M)².

    `subset_size` images of x, by default half of them, and the same share of y make one estimate. The error is that
    of the whole sample: the spread of the estimates times sqrt(m / (N - m)) for m of N images, the delete-d jackknife
    (Shao and Wu 1989). Subsets overlap, so spread / sqrt(subsets) would shrink with the work done, not with the
    images seen. It is exact where the sets differ; where they do not, it is too large by sqrt(3) at the default size.

    Raises ValueError as `squared_mmd` does, and for subsets that are no proper part of x, of fewer than two images,
    or fewer than two.
    """
    return _summary(
        block_estimates(x_ND, y_MD, subset_size=subset_size, subsets=subsets, seed=seed), len(x_ND), subset_size
    )


def kid_change(
    before_ND: np.ndarray,
    after_ND: np.ndarray,
    reference_MD: np.ndarray,
    *,
    subset_size: int | None = None,
    subsets: int = SUBSETS,
    seed: int = SEED,
) -> KID:
    """Return KID(after, reference) - KID(before, reference).

    `before` and `after` are the same prompts and noise in the same order. Both are taken on the same subsets, so what
    they share cancels: the error is that of the difference, smaller than the two errors suggest. Above 0, the images
    moved away from the reference. Raises ValueError as `kid` does, and for sets of different length.
    """
    if len(before_ND) != len(after_ND):
        raise ValueError(f"a change needs pairs of images; got {len(before_ND)} before and {len(after_ND)} after")
    before_S, after_S = (
        block_estimates(features_ND, reference_MD, subset_size=subset_size, subsets=subsets, seed=seed)
        for features_ND in (before_ND, after_ND)
    )
    change_S = after_S - before_S
    return _summary(change_S, len(before_ND), subset_size)


def block_estimates(
    x_ND: np.ndarray, y_MD: np.ndarray, *, subset_size: int | None = None, subsets: int = SUBSETS, seed: int = SEED
) -> np.ndarray:
    """Return one unbiased MMD² a subset (S); which images a subset has depends on N, M, its size and the seed alone."""
    _check(x_ND, y_MD)
    size = _subset_size(len(x_ND), subset_size)
    if not 2 <= size < len(x_ND):
        raise ValueError(f"subsets of {size} images cannot be drawn from {len(x_ND)}; allowed: 2 to {len(x_ND) - 1}")
    if subsets < 2:
        raise ValueError(f"{subsets} subsets have no spread to take an error from; ask for 2 or more")
    share = max(2, round(len(y_MD) * size / len(x_ND)))
    chosen_NS = _subsets(np.random.default_rng((seed, 0)), len(x_ND), size, subsets)
    chosen_MS = _subsets(np.random.default_rng((seed, 1)), len(y_MD), share, subsets)
    return _mmd_S(x_ND, y_MD, chosen_NS, chosen_MS)


def _summary(estimates_S: np.ndarray, count: int, subset_size: int | None) -> KID:
    size = _subset_size(count, subset_size)
    error = float(estimates_S.std(ddof=1)) * sqrt(size / (count - size))
    return KID(mean=float(estimates_S.mean()), error=error, subset_size=size, subsets=len(estimates_S))


def _subset_size(count: int, asked: int | None) -> int:
    return count // 2 if asked is None else asked


def _subsets(rng: np.random.Generator, count: int, size: int, subsets: int) -> np.ndarray:
    """Return which of `count` images each subset has: 0 or 1, (count, S), every column with `size` ones."""
    rank_SN = rng.random((subsets, count)).argsort(1).argsort(1)
    return (rank_SN < size).T.astype(np.float64)


def _mmd_S(x_ND: np.ndarray, y_MD: np.ndarray, chosen_NS: np.ndarray, chosen_MS: np.ndarray) -> np.ndarray:
    """Return the unbiased MMD² of every pair of subsets; the diagonal k(x, x) is left out of the sums within a set."""
    between_S = (chosen_NS * (polynomial_kernel(x_ND, y_MD) @ chosen_MS)).sum(0) / (chosen_NS.sum(0) * chosen_MS.sum(0))
    mmd_S: np.ndarray = _within_S(x_ND, chosen_NS) + _within_S(y_MD, chosen_MS) - 2 * between_S
    return mmd_S


def _within_S(x_ND: np.ndarray, chosen_NS: np.ndarray) -> np.ndarray:
    kernel_NN = polynomial_kernel(x_ND, x_ND)
    count_S = chosen_NS.sum(0)
    np.fill_diagonal(kernel_NN, 0)
    within_S: np.ndarray = (chosen_NS * (kernel_NN @ chosen_NS)).sum(0) / (count_S * (count_S - 1))
    return within_S


def _check(x_ND: np.ndarray, y_MD: np.ndarray) -> None:
    shapes = f"got {np.shape(x_ND)} and {np.shape(y_MD)}"
    if np.ndim(x_ND) != 2 or np.ndim(y_MD) != 2 or np.shape(x_ND)[1] != np.shape(y_MD)[1]:
        raise ValueError(f"features must be (N, D) and (M, D) of one network; {shapes}")
    if min(len(x_ND), len(y_MD)) < 2:
        raise ValueError(f"too few images: an unbiased estimate needs at least 2 of each set; {shapes}")
    if not (np.isfinite(x_ND).all() and np.isfinite(y_MD).all()):
        raise ValueError("a feature is not finite; an image or the network is broken")
