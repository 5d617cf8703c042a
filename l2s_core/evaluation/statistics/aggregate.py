"""From verdicts to rates with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

Z95 = 1.959963984540054


def wilson_interval(hits: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval of a rate (Wilson 1927); (0, 1) for no trials."""
    if count == 0:
        return 0.0, 1.0
    rate, spread = hits / count, z * z / count
    centre = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * sqrt(rate * (1 - rate) / count + spread / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of `count` trials with its 95 % Wilson interval."""

    hits: int
    count: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, outcomes: Sequence[bool]) -> Rate:
        hits, count = sum(map(bool, outcomes)), len(outcomes)
        low, high = wilson_interval(hits, count)
        return cls(hits=hits, count=count, rate=hits / count if count else 0.0, low=low, high=high)


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the rows of `judge_samples`: rates, broken down by relation and pair split, and cost per image.

    `extra` is the rate of images in which more than the objects asked for were found: a measure of damage. Prompts of several
    relations have the rate of single `pairs` too, protocols with a soft score its mean with a 95 % interval.
    """
    count, peaks = max(1, len(rows)), [r["peak_bytes"] for r in rows if r["peak_bytes"] is not None]
    more = {}
    if any(len(r["pairs"]) > 1 for r in rows):
        more["pairs"] = asdict(Rate.of([held for r in rows for held in r["pairs"]]))
    if rows and all(r["score"] is not None for r in rows):
        more["score"] = _mean([r["score"] for r in rows])
    return {
        "correct": asdict(Rate.of([r["correct"] for r in rows])),
        "both": asdict(Rate.of([r["both"] for r in rows])),
        "extra": asdict(Rate.of([len(r["detections"]) > len(r["objects"]) for r in rows])),
        "by_relation": _by_relation(rows),
        "by_prompt_group": _by(rows, "prompt_group"),
        "gradients": sum(r["gradients"] for r in rows) / count,
        "checks": sum(r["checks"] for r in rows) / count,
        "skipped": sum(r["skipped"] for r in rows),
        "seconds": sum(r["seconds"] for r in rows) / count,
        "peak_bytes": max(peaks, default=None),
        **more,
    }


def _mean(values: Sequence[float]) -> dict[str, float]:
    """Return the mean of scores in [0, 1] with the normal 95 % interval, cut to that range."""
    mean = sum(values) / len(values)
    half = Z95 * sqrt(sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1) / len(values))
    return {"mean": mean, "low": max(0.0, mean - half), "high": min(1.0, mean + half)}


def _by_relation(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict]:
    """By what images are asked for; where prompts have several relations, by each of them alone."""
    if not any(len(r.get("relations", ())) > 1 for r in rows):
        return _by(rows, "relation")
    judged = [
        {"relation": relation, "correct": held}
        for r in rows
        for relation, held in zip(r["relations"], r["pairs"], strict=True)
    ]
    return _by(judged, "relation")


def _by(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, dict]:
    values = list(dict.fromkeys(r[key] for r in rows))
    return {value: asdict(Rate.of([r["correct"] for r in rows if r[key] == value])) for value in values}
