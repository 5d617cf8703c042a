"""Labels of points in a picture, where they hide least."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

SIZE = 8  # points, of the letters
REACHES = (5, 14, 24, 36, 50)  # points between a mark and its label
SIDES = [(1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)]
MARK = 5  # pixels from the middle of a mark that a label keeps off
BAR = 2  # the same for the middle of a bar
OUTSIDE = 20.0  # pixels hidden for which a pixel outside the axes counts
AWAY = 3.0  # pixels hidden for which a point of distance counts


class Labelled(Protocol):
    """A point with a label, and the interval that is drawn through it, if any."""

    @property
    def cost(self) -> float: ...

    @property
    def value(self) -> float: ...

    @property
    def label(self) -> str: ...

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...

    @property
    def own(self) -> bool: ...


def place_labels(axes: Axes, spots: Sequence[Labelled]) -> None:
    """Write every spot's label beside it, own ones bold.

    Of places around the spot it takes the one that covers least of marks, bars and labels before it.

    A label further off is joined to its mark by a thin line. Call it when everything else is drawn.
    """
    if isinstance(axes.figure, Figure):
        axes.figure.draw_without_rendering()  # settles the layout
    taken = [box for spot in spots for box in _drawn(axes, spot)]
    for spot in spots:
        style: dict[str, Any] = {"fontsize": SIZE, "fontweight": "bold" if spot.own else "normal"}
        place, reach, box = min(_places(axes, spot, style), key=lambda p: _hidden(p[2], taken, axes.bbox) + AWAY * p[1])
        line = (
            {"arrowstyle": "-", "color": "grey", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
            if reach > REACHES[0]
            else None
        )
        note = axes.annotate(
            spot.label,
            (spot.cost, spot.value),
            xytext=place,
            textcoords="offset points",
            ha="center",
            va="center",
            arrowprops=line,
            **style,
        )
        note.set_in_layout(False)
        taken.append(box)


def _places(axes: Axes, spot: Labelled, style: dict[str, Any]) -> list[tuple[tuple[float, float], int, Bbox]]:
    """Return where a label may stand: its middle in points from the mark, its distance, and its box in pixels."""
    text = axes.text(spot.cost, spot.value, spot.label, **style)
    size = text.get_window_extent()
    pixels = axes.figure.dpi / 72
    text.remove()
    x, y = axes.transData.transform((spot.cost, spot.value))
    places = []
    for reach, (right, up) in product(REACHES, SIDES):
        dx = right * (reach + size.width / pixels / 2)
        dy = up * (reach + size.height / pixels / 2)
        box = Bbox.from_bounds(
            x + dx * pixels - size.width / 2, y + dy * pixels - size.height / 2, size.width, size.height
        )
        places.append(((dx, dy), reach, box))
    return places


def _drawn(axes: Axes, spot: Labelled) -> list[Bbox]:
    """Return the boxes, in pixels, of a spot's mark and bar."""
    x, y = axes.transData.transform((spot.cost, spot.value))
    boxes = [Bbox.from_extents(x - MARK, y - MARK, x + MARK, y + MARK)]
    if spot.low is not None and spot.high is not None:
        (_, low), (_, high) = axes.transData.transform([(spot.cost, spot.low), (spot.cost, spot.high)])
        boxes.append(Bbox.from_extents(x - BAR, low, x + BAR, high))
    return boxes


def _hidden(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> float:
    """Return how many pixels of what is there a box covers; those outside the axes count more."""
    return sum(_shared(box, other) for other in taken) + OUTSIDE * (_area(box) - _shared(box, inside))


def _shared(a: Bbox, b: Bbox) -> float:
    both = Bbox.intersection(a, b)
    return _area(both) if both is not None else 0.0


def _area(box: Bbox) -> float:
    return box.width * box.height
