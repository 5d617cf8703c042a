"""Whether runs differ by more than chance, paired on the same prompts and seeds. Pure; nothing is sampled or judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

import numpy as np

from l2s_core.errors import UserError
from l2s_core.evaluation.judged_image import JudgedImage

ALPHA = 0.05  # p below which a difference counts as more than chance
OUTCOMES = ("correct", "all_found")
SCORE = "score"  # a soft one in [0, 1], where every image of the runs has it
PARTS = ("asks_for", "prompt_group")
RESAMPLES = 10_000
SEED = 0
FIRST = "first"
SECOND = "second"

Label = TypeVar("Label", bound=Hashable)
Pair = tuple[JudgedImage, JudgedImage]  # the same prompt and seed in the first and in the second run


def sign_flip_p(sums: Sequence[int]) -> float:
    """Return the exact two-sided p of the sign-flip test (Fisher 1935; Pitman 1937); 1 for no sums.

    A sum is that of a prompt's differences. Where runs do not differ, a prompt's sum is as likely with the other
    sign: p is the share of all sign patterns whose total is at least as far from 0 as the one seen. With one image a
    prompt this is McNemar's exact test; with several, images of a prompt count together, not as independent ones.
    """
    sizes = [abs(value) for value in sums if value]
    share = np.ones(
        1
    )  # of the patterns of the prompts so far, by their total: from minus to plus its largest, in steps of 1
    for size in sizes:
        share = (np.pad(share, (2 * size, 0)) + np.pad(share, (0, 2 * size))) / 2
    middle = len(share) // 2
    seen = abs(sum(sums))
    return min(1.0, float(2 * share[middle + seen :].sum())) if seen else 1.0


def drawn_sign_flip_p(sums: Sequence[float]) -> float:
    """Return the p of `sign_flip_p` for sums that are no whole numbers.

    It comes from all sign patterns, or from RESAMPLES - 1 random ones where there are more.
    """
    from scipy.stats import permutation_test  # half a second to import, and soft scores are rare

    sums_P = np.asarray([value for value in sums if value], dtype=float)
    if len(sums_P) < 2:
        return 1.0
    test = permutation_test(
        (sums_P,),
        lambda values, axis: values.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES - 1,
        rng=SEED,
    )
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values (Holm 1979), in the order given: one below alpha holds for the whole family."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


def bootstrap_interval(
    differences: Sequence[float], clusters: Sequence[Hashable], *, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a mean over clustered values (Efron & Tibshirani 1993, ch. 13).

    Whole clusters are drawn with replacement, since images of one prompt go wrong together. Clusters with the same
    size and sum are alike to the mean, so that a resample is one multinomial draw over the kinds of cluster.
    """
    if not len(differences):
        return -1.0, 1.0
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    member = [numbers[cluster] for cluster in clusters]
    totals = np.stack([np.bincount(member), np.bincount(member, weights=differences)], axis=1)
    kinds_K2, counts_K = np.unique(totals, axis=0, return_counts=True)
    draws_RK = np.random.default_rng(seed).multinomial(len(numbers), counts_K / len(numbers), size=resamples)
    sizes_R, sums_R = (draws_RK @ kinds_K2).T
    low, high = np.quantile(sums_R / sizes_R, (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Rates of an outcome, or means of a score, in two runs on the same `count` images of `prompts` prompts.

    `difference` is second minus first, `low` to `high` its 95 % bootstrap interval by prompt, `p` that of the
    sign-flip test by prompt; `only_first` and `only_second` count the images where one run alone succeeds, or scores
    higher.
    """

    count: int
    prompts: int
    first: float
    second: float
    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, pairs: Sequence[Pair], outcome: str) -> PairedDifference:
        kind, p_of = (float, drawn_sign_flip_p) if outcome == SCORE else (int, sign_flip_p)
        first, second = (np.array([kind(getattr(pair[side], outcome)) for pair in pairs]) for side in (0, 1))
        prompts = [a.prompt for a, _ in pairs]
        gains = second - first
        low, high = bootstrap_interval(gains, prompts)
        sums: Counter[str] = Counter()
        for prompt, gain in zip(prompts, gains.tolist(), strict=True):
            sums[prompt] += gain
        return cls(
            count=len(pairs),
            prompts=len(set(prompts)),
            first=float(first.mean()),
            second=float(second.mean()),
            only_first=int((gains < 0).sum()),
            only_second=int((gains > 0).sum()),
            difference=float(second.mean() - first.mean()),
            low=low,
            high=high,
            p=p_of([*sums.values()]),
        )


@dataclass(frozen=True, kw_only=True)
class Discordant:
    """An image on which two runs differ: who succeeded, and what the judge says of the other."""

    prompt: str
    seed: int
    right: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PairedRuns:
    """Two runs, `first` and `second`, on the images they share; `left_out` counts those that only one of them has.

    `outcomes` goes by OUTCOMES, and SCORE where there is one, `discordant` by OUTCOMES, `parts` by a key of PARTS,
    its value and the outcome; `holm` is p after Holm's correction. `gradients` and `seconds` are mean differences an
    image, second minus first.
    """

    first: str
    second: str
    shared: int
    left_out: tuple[int, int]
    outcomes: dict[str, PairedDifference]
    parts: dict[str, dict[str, dict[str, PairedDifference]]]
    gradients: float
    seconds: float
    discordant: dict[str, list[Discordant]]
    holm: dict[str, float]


def compare_all(runs: Mapping[str, Sequence[JudgedImage]]) -> list[PairedRuns]:
    """Compare every two of `runs`, in their order, with Holm's correction over all pairs, an outcome at a time.

    Raises UserError for two runs that share no image.
    """
    scored = all(image.score is not None for images in runs.values() for image in images)
    outcomes = (*OUTCOMES, SCORE) if scored else OUTCOMES
    pairs = [compare_two(a, b, runs[a], runs[b], outcomes) for a, b in combinations(runs, 2)]
    adjusted = {outcome: holm([pair.outcomes[outcome].p for pair in pairs]) for outcome in outcomes}
    return [replace(pair, holm={outcome: adjusted[outcome][i] for outcome in outcomes}) for i, pair in enumerate(pairs)]


def compare_to(
    reference: Sequence[JudgedImage], others: Mapping[Label, Sequence[JudgedImage]], outcome: str
) -> dict[Label, tuple[PairedDifference, float]]:
    """Compare each of `others` with one reference: by label the difference and its p, with Holm's correction."""
    return compare_pairs({label: match(reference, rows) for label, rows in others.items()}, outcome)


def compare_pairs(pairs: Mapping[Label, Sequence[Pair]], outcome: str) -> dict[Label, tuple[PairedDifference, float]]:
    """Return the difference of the images of every label's pairs and its p, with Holm's correction over the labels."""
    differences = {label: PairedDifference.of(each, outcome) for label, each in pairs.items()}
    adjusted = holm([difference.p for difference in differences.values()])
    return {label: (difference, p) for (label, difference), p in zip(differences.items(), adjusted, strict=True)}


def compare_two(
    first: str,
    second: str,
    first_rows: Sequence[JudgedImage],
    second_rows: Sequence[JudgedImage],
    outcomes: Sequence[str] = OUTCOMES,
) -> PairedRuns:
    """Compare two runs by these outcomes; `holm` is p itself, as for a family of one.

    Raises UserError when they share no image.
    """
    pairs = match(first_rows, second_rows)
    if not pairs:
        raise UserError(_nothing_shared(first, second, first_rows, second_rows))
    whole = _outcomes(pairs, outcomes)
    return PairedRuns(
        first=first,
        second=second,
        shared=len(pairs),
        left_out=(len(first_rows) - len(pairs), len(second_rows) - len(pairs)),
        outcomes=whole,
        parts={key: _by(pairs, key, outcomes) for key in PARTS},
        gradients=_mean_difference(pairs, "gradients"),
        seconds=_mean_difference(pairs, "seconds"),
        discordant={outcome: _discordant(pairs, outcome) for outcome in OUTCOMES},
        holm={outcome: whole[outcome].p for outcome in outcomes},
    )


def match(first: Sequence[JudgedImage], second: Sequence[JudgedImage]) -> list[Pair]:
    """Return the rows of the same prompt and seed side by side, in the order of the first.

    Raises UserError for an image that is there twice.
    """
    mine = _keyed(first)
    theirs = _keyed(second)
    return [(row, theirs[key]) for key, row in mine.items() if key in theirs]


def _keyed(rows: Sequence[JudgedImage]) -> dict[tuple[str, int], JudgedImage]:
    keyed: dict[tuple[str, int], JudgedImage] = {}
    for row in rows:
        key = row.prompt, row.seed
        if key in keyed:
            raise UserError(f"two images of {key[0]!r} with seed {key[1]} in one run; its verdicts cannot be paired")
        keyed[key] = row
    return keyed


def _outcomes(pairs: Sequence[Pair], outcomes: Sequence[str]) -> dict[str, PairedDifference]:
    return {outcome: PairedDifference.of(pairs, outcome) for outcome in outcomes}


def _by(pairs: Sequence[Pair], key: str, outcomes: Sequence[str]) -> dict[str, dict[str, PairedDifference]]:
    values = dict.fromkeys(getattr(first, key) for first, _ in pairs)
    return {value: _outcomes([pair for pair in pairs if getattr(pair[0], key) == value], outcomes) for value in values}


def _mean_difference(pairs: Sequence[Pair], cost: str) -> float:
    return float(np.mean([getattr(second, cost) - getattr(first, cost) for first, second in pairs]))


def _discordant(pairs: Sequence[Pair], outcome: str) -> list[Discordant]:
    found = []
    for first, second in pairs:
        if getattr(first, outcome) != getattr(second, outcome):
            right, other = (FIRST, second) if getattr(first, outcome) else (SECOND, first)
            reason = other.verdict.reason
            found.append(Discordant(prompt=first.prompt, seed=first.seed, right=right, reason=reason))
    return found


def _nothing_shared(
    first: str, second: str, first_rows: Sequence[JudgedImage], second_rows: Sequence[JudgedImage]
) -> str:
    prompts = {row.prompt for row in first_rows} & {row.prompt for row in second_rows}
    return (
        f"{first} ({_contents(first_rows)}) and {second} ({_contents(second_rows)}) share {len(prompts)} prompts "
        "and no image of the same prompt and seed; compare runs of one benchmark.suite"
    )


def _contents(rows: Sequence[JudgedImage]) -> str:
    example = f", as {rows[0].prompt!r} with seed {rows[0].seed}" if rows else ""
    return f"{len(rows)} images{example}"
