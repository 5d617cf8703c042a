"""GenEval's position rule: golden cases."""

from __future__ import annotations

import pytest

from l2s_core.relations import relations_between

UNIT = (0, 0, 10, 10)


def moved(dx: float, dy: float) -> tuple[float, float, float, float]:
    return dx, dy, 10 + dx, 10 + dy


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ((-30, 0), {"left of"}),
        ((30, 0), {"right of"}),
        ((0, -30), {"above"}),
        ((0, 30), {"below"}),
        ((-30, -30), {"left of", "above"}),
        ((30, 14), {"right of"}),
        ((0, 0), set()),  # same centre: no direction
        ((-2, 0), set()),  # inside the shrink margin of 0.1 x (10 + 10)
        ((-4, 0), set()),  # (4 - 2) / 4 = 0.5 does not pass the threshold
        ((-5, 0), {"left of"}),  # (5 - 2) / 5 = 0.6 does
    ],
)
def test_golden_cases(offset, expected) -> None:
    assert relations_between(moved(*offset), UNIT) == expected
