"""Where a method is good and where it is not.

Rates by relation and by kind of prompt, every method beside the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from l2s_core.evaluation.run_summary import MethodRow
from l2s_core.evaluation.statistics.aggregate import MethodSummary, Rate

PARTS = {"by_relation": "By relation", "by_prompt_group": "By kind of prompt"}


@dataclass(frozen=True, kw_only=True)
class BreakdownLine:
    """A relation, or a kind of prompts: a rate a method, None where a method has no such image.

    `count` is the number of plain images.
    """

    value: str
    count: int
    rates: tuple[Rate | None, ...]


def breakdown(rows: Sequence[MethodRow], part: str) -> list[BreakdownLine]:
    """Return a line a value of `part` (a key of PARTS).

    `rows` are those of a `RunSummary`, the plain one first; values come in its order.
    """
    parts = [_part(row.summary, part) for row in rows]
    values = dict.fromkeys(value for rates in parts for value in rates)
    return [_line(value, tuple(rates.get(value) for rates in parts)) for value in values]


def _part(summary: MethodSummary, part: str) -> Mapping[str, Rate]:
    return summary.by_relation if part == "by_relation" else summary.by_prompt_group


def _line(value: str, rates: tuple[Rate | None, ...]) -> BreakdownLine:
    plain = rates[0]
    return BreakdownLine(value=value, count=0 if plain is None else plain.count, rates=rates)
