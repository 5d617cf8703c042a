"""From verdicts to rates with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.protocols.verdict import RelationVerdict

Z95 = 1.959963984540054


def wilson_interval(hits: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval of a rate (Wilson 1927); (0, 1) for no trials."""
    if count == 0:
        return 0.0, 1.0
    rate = hits / count
    spread = z * z / count
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
        hits = sum(map(bool, outcomes))
        count = len(outcomes)
        low, high = wilson_interval(hits, count)
        return cls(hits=hits, count=count, rate=hits / count if count else 0.0, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class MeanScore:
    """The mean of scores in [0, 1] with the normal 95 % interval, cut to that range."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> MeanScore:
        """Return the mean of one score or more."""
        mean = sum(values) / len(values)
        half = Z95 * sqrt(sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1) / len(values))
        return cls(mean=mean, low=max(0.0, mean - half), high=min(1.0, mean + half))


@dataclass(frozen=True, kw_only=True)
class MethodSummary:
    """What a method's images come to: rates, also by what is asked for and by kind of prompt, and the cost of an image.

    `extra` is the rate of images in which more than the objects asked for were found: a measure of damage. Prompts of
    several relations have the rate of `single_relations` and that of `lenient` verdicts (see `Verdict`), protocols with
    a soft score its mean. `gradients`, `checks`
    and `seconds` are means an image, `skipped` is a sum and `peak_bytes` the largest peak of memory.
    """

    correct: Rate
    all_found: Rate
    extra: Rate
    by_relation: dict[str, Rate]
    by_prompt_group: dict[str, Rate]
    gradients: float
    checks: float
    skipped: int
    seconds: float
    peak_bytes: int | None = None
    single_relations: Rate | None = None
    lenient: Rate | None = None
    score: MeanScore | None = None

    @classmethod
    def of(cls, images: Sequence[JudgedImage]) -> MethodSummary:
        """Summarise the images of a method."""
        count = max(1, len(images))
        peaks = [image.peak_bytes for image in images if image.peak_bytes is not None]
        scores = [image.score for image in images if image.score is not None]
        lenient = [image.verdict.lenient for image in images if image.verdict.lenient is not None]
        return cls(
            correct=Rate.of([image.correct for image in images]),
            all_found=Rate.of([image.all_found for image in images]),
            extra=Rate.of([len(image.detections) > len(image.objects) for image in images]),
            by_relation=_by_relation(images),
            by_prompt_group=_rates([(image.prompt_group, image.correct) for image in images]),
            gradients=sum(image.gradients for image in images) / count,
            checks=sum(image.checks for image in images) / count,
            skipped=sum(image.skipped for image in images),
            seconds=sum(image.seconds for image in images) / count,
            peak_bytes=max(peaks, default=None),
            single_relations=Rate.of([r.holds for r in _relations(images)]) if _several(images) else None,
            lenient=Rate.of(lenient) if lenient and len(lenient) == len(images) else None,
            score=MeanScore.of(scores) if scores and len(scores) == len(images) else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of a summary; what the protocol does not have is left out."""
        values = asdict(self)
        return {key: value for key, value in values.items() if value is not None or key == "peak_bytes"}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MethodSummary:
        """Read what `to_json` wrote, whatever stands beside it; raises KeyError or TypeError for anything else."""
        return cls(
            correct=Rate(**value["correct"]),
            all_found=Rate(**value["all_found"]),
            extra=Rate(**value["extra"]),
            by_relation={name: Rate(**rate) for name, rate in value["by_relation"].items()},
            by_prompt_group={name: Rate(**rate) for name, rate in value["by_prompt_group"].items()},
            gradients=value["gradients"],
            checks=value["checks"],
            skipped=value["skipped"],
            seconds=value["seconds"],
            peak_bytes=value["peak_bytes"],
            single_relations=Rate(**value["single_relations"]) if "single_relations" in value else None,
            lenient=Rate(**value["lenient"]) if "lenient" in value else None,
            score=MeanScore(**value["score"]) if "score" in value else None,
        )


def _several(images: Sequence[JudgedImage]) -> bool:
    """Whether prompts have several relations."""
    return any(len(image.verdict.relations) > 1 for image in images)


def _relations(images: Sequence[JudgedImage]) -> list[RelationVerdict]:
    return [relation for image in images for relation in image.verdict.relations]


def _by_relation(images: Sequence[JudgedImage]) -> dict[str, Rate]:
    """By what images are asked for; where prompts have several relations, by each of them alone."""
    if not _several(images):
        return _rates([(image.asks_for, image.correct) for image in images])
    return _rates([(relation.triplet.relation, relation.holds) for relation in _relations(images)])


def _rates(outcomes: Sequence[tuple[str, bool]]) -> dict[str, Rate]:
    """Return the rate of each key, in the order in which keys first come."""
    keys = dict.fromkeys(key for key, _ in outcomes)
    return {key: Rate.of([outcome for other, outcome in outcomes if other == key]) for key in keys}
