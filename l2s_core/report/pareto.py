"""What accuracy costs: the points that no other beats, and their picture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l2s_core.report.labels import place_labels
from l2s_core.report.leaderboard import LeaderboardRow

FRONT = "tab:blue"
BEATEN = "tab:gray"
WIDE = 10  # costs that differ by more are drawn on a logarithmic axis
COSTS = {"seconds": "seconds an image", "gradients": "gradient evaluations an image"}  # by a row's field


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A point of the picture: the more `value` at the less `cost`, the better. `low` to `high` is the value's interval.

    One that is `apart` is shown, but is on no front and beats none.
    """

    cost: float
    value: float
    label: str
    low: float | None = None
    high: float | None = None
    own: bool = False
    apart: bool = False


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (cost, value) that no other beats, the cheapest first.

    One beats another that costs no less and is worth no more, unless they are equal: equal points stay together. A
    point that is not finite is on no front and beats none.
    """
    finite = [i for i, point in enumerate(points) if all(map(isfinite, point))]
    front = [i for i in finite if not any(_beats(points[j], points[i]) for j in finite)]
    return sorted(front, key=lambda i: points[i])


def _beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


def pareto_figure(rows: Sequence[LeaderboardRow], own: str, apart: Collection[str] = ()) -> Figure:
    """Draw relation accuracy with its interval against each of COSTS, a panel a cost.

    `own` is the name of the row to stand out, `apart` holds the names of those that no one can use.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    for axes, (cost, name) in zip(figure.subplots(1, len(COSTS), sharey=True), COSTS.items(), strict=True):
        spots = [_spot(row, getattr(row, cost), own, apart) for row in rows]
        draw_front(axes, spots, xlabel=name, ylabel="relation correct")
    return figure


def _spot(row: LeaderboardRow, cost: float, own: str, apart: Collection[str]) -> Spot:
    return Spot(
        cost=cost,
        value=row.correct.rate,
        label=row.label,
        low=row.correct.low,
        high=row.correct.high,
        own=row.name == own,
        apart=row.name in apart,
    )


def draw_front(axes: Axes, spots: Sequence[Spot], *, xlabel: str, ylabel: str) -> None:
    """Draw spots with their intervals and labels; those on the front are filled and joined by a line."""
    usable = [spot for spot in spots if not spot.apart]
    front = [usable[i] for i in pareto_front([(spot.cost, spot.value) for spot in usable])]
    for spot in spots:
        color = FRONT if spot in front else BEATEN
        if spot.low is not None and spot.high is not None:
            axes.vlines(spot.cost, spot.low, spot.high, color=color, linewidth=1.2, alpha=0.6)
        axes.scatter(
            spot.cost,
            spot.value,
            s=40 if spot.own else 24,
            color=color if spot in front else "white",
            edgecolors=color,
            zorder=3,
        )
    if front:
        axes.plot([spot.cost for spot in front], [spot.value for spot in front], color=FRONT, alpha=0.4)
    _scale_costs(axes, cost_scale([spot.cost for spot in spots]))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.margins(x=0.12)
    axes.grid(alpha=0.3)
    place_labels(axes, spots)


def _scale_costs(axes: Axes, scale: str) -> None:
    if scale != "linear":
        axes.set_xscale(scale, subs=(2, 5), **({"linthresh": 1} if scale == "symlog" else {}))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")


def cost_scale(costs: Sequence[float]) -> str:
    """Return the scale of an axis of costs: linear unless those above 0 differ widely.

    With a cost of 0, the logarithm ends at 1.
    """
    positive = [cost for cost in costs if cost > 0]
    if not positive or max(positive) <= WIDE * min(positive):
        return "linear"
    return "log" if len(positive) == len(costs) else "symlog"
