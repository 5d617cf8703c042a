"""How far a sweep is: what is said before each of its points."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from flows.display import roughly
from l2s_core.experiments.sweeps import Point, PointResult, SweepConfig, rank


class Standing:
    """The points of a sweep that ended, those of earlier calls included, and how long those of this call took."""

    def __init__(self, settings: SweepConfig, total: int, results: Sequence[PointResult] = ()) -> None:
        self.settings = settings
        self.total = total
        self.results = list(results)
        self._seconds: list[float] = []

    @contextmanager
    def at(self, point: Point) -> Iterator[None]:
        """Say which point begins, which one is the best so far, and about how much time is left; time the block."""
        click.echo(f"\n{self.line(point)}", err=True)
        began = time.perf_counter()
        yield
        self._seconds.append(time.perf_counter() - began)

    def line(self, point: Point) -> str:
        """Return "point 2 of 3: width=16; best so far width=8, correct 0.83; about 4 min left"."""
        said = [f"point {len(self.results) + 1} of {self.total}: {point.label}"]
        metric = self.settings.metric
        for best in rank(self.results, metric)[:1]:
            said.append(f"best so far {best.label}, {metric} {best.metrics[metric]:.2f}")
        if self._seconds:
            mean = sum(self._seconds) / len(self._seconds)
            said.append(f"about {roughly(mean * (self.total - len(self.results)))} left")
        return "; ".join(said)
