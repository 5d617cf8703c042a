"""Batches made by other processes ahead of their steps: on a GPU a step is shorter than drawing its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

AHEAD = 4  # batches a worker that are made beforehand


@dataclass(frozen=True)
class Workers:
    """Processes that make batches, and how many batches they make beforehand."""

    pool: ProcessPoolExecutor
    depth: int


@contextmanager
def workers(count: int) -> Iterator[Workers | None]:
    """Yield so many processes for as long as the block lasts, or None for no process."""
    if not count:
        yield None
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield Workers(pool, AHEAD * count)


@dataclass(frozen=True)
class Ahead:
    """What a function of the step returns, for steps in their order up to `last`.

    Without workers it is called when it is asked. The function depends on nothing but the step, so that the number of
    workers changes no batch. It can be sent to another process and touches no GPU.
    """

    make: Callable[[int], Any]
    last: int
    workers: Workers | None = None
    _pending: dict[int, Future[Any]] = field(default_factory=dict)

    def __call__(self, step: int) -> Any:
        if self.workers is None:
            return self.make(step)
        for number in range(step, max(step + 1, min(step + self.workers.depth, self.last))):
            if number not in self._pending:
                self._pending[number] = self.workers.pool.submit(self.make, number)
        return self._pending.pop(step).result()
