"""Names of metrics in MLflow: its pages put those that are alike up to the last "/" into one section."""

from __future__ import annotations

from collections.abc import Mapping

from l2s_core.config import PLAIN

STEERED = "steered"
HEADLINE = "bench/steered/correct"
BEST = "best/steered/correct"  # of the benchmarks of a classifier, or of the points of a sweep
DIGITS = 4  # of figures in MLflow, so that its columns can be read; reports and tables have all
_SPLITS = ("train", "val", "test")
_POINT = {
    "correct": HEADLINE,
    "all_found": "bench/steered/all_found",
    "gradients": "bench/steered/gradients",
    "seconds": "bench/steered/seconds",
    "time_ratio": "bench/steered/time_ratio",
    "kid_change": "bench/steered/kid_change",
    "kid_change_error": "bench/steered/kid_change_error",
    "plain_correct": "plain/correct",
    "plain_all_found": "plain/all_found",
}
"""A point's figures have the names that the same ones of a benchmark have: its row can stand beside theirs."""


def benchmark_metrics(methods: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return figures of methods' images: "bench/steered/correct", steering first; "plain/correct" are those of plain.

    Plain sampling is the same for every classifier, so its section comes after those in which they differ.
    """
    first = sorted(methods, key=lambda method: method != STEERED)
    return {
        f"{PLAIN if method == PLAIN else f'bench/{method}'}/{figure}": round(value, DIGITS)
        for method in first
        for figure, value in methods[method].items()
    }


def training_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Return figures of a training, "val_accuracy" and such, by their splits: "val/accuracy", which comes first.

    MLflow's comparison of runs opens on the metric that they logged first.
    """
    return {_of_split(key): values[key] for key in sorted(values, key=lambda key: key != "val_accuracy")}


def point_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of a point of a sweep by the names that runs of classifiers and benchmarks have for them."""
    return {_POINT.get(key) or _of_split(key): round(value, DIGITS) for key, value in values.items()}


def best_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Return metrics as those of the best one of several: "best/steered/correct"; plain ones are left out."""
    return {f"best/{key.removeprefix('bench/')}": value for key, value in values.items() if not key.startswith(PLAIN)}


def _of_split(key: str) -> str:
    split, _, rest = key.partition("_")
    return f"{split}/{rest}" if split in _SPLITS and rest else f"train/{key}"
