"""What a run shows of its progress: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click
from tqdm import tqdm

from l2s_core.planning.pace import TimeLeft

FIRST_LINE_SECONDS = 3.0  # of a stage, before a log gets a line of it
LINE_SECONDS = 60.0  # between two lines


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a run is: its stage, what is done of it, the seconds so far, and those that are left where known."""

    stage: str
    done: str
    seconds: float
    left: TimeLeft | None

    @property
    def text(self) -> str:
        """The status in words."""
        return f"{self.stage}: {self.done}" if self.done else self.stage


class Display(ABC):
    """Shows a run's progress."""

    @abstractmethod
    def show(self, status: Status) -> None:
        """Show how far the run is."""

    @abstractmethod
    def say(self, line: str) -> None:
        """Write a line that stays."""

    @abstractmethod
    def close(self) -> None:
        """End the display."""


class Bar(Display):
    """A bar over the whole run, at the bottom of a terminal; its length is the share of the time.

    What a narrow terminal cuts off stands last.
    """

    FORMAT = "{percentage:3.0f}% |{bar:10}| {desc}"
    WITHOUT = "{desc}"

    def __init__(self) -> None:
        self._bar = tqdm(total=1.0, leave=False, dynamic_ncols=True, bar_format=self.WITHOUT)

    def show(self, status: Status) -> None:
        self._bar.bar_format = self.FORMAT if status.left is not None and status.left.all_counted else self.WITHOUT
        if status.left is not None:
            self._bar.n = status.seconds / max(status.seconds + status.left.seconds, 1e-9)
        clock = left(status) or f"{duration(status.seconds)} so far"
        self._bar.set_description_str(f"{clock}; {status.text}", refresh=False)
        self._bar.refresh()

    def say(self, line: str) -> None:
        self._bar.clear()
        click.echo(line, err=True)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


class Lines(Display):
    """Lines for a log file: a stage has one after some seconds, then one a minute."""

    def __init__(self) -> None:
        self._stage = ""
        self._next = 0.0

    def show(self, status: Status) -> None:
        now = time.monotonic()
        if status.stage != self._stage:
            self._stage = status.stage
            self._next = now + FIRST_LINE_SECONDS
        if now >= self._next:
            self._next = now + LINE_SECONDS
            self.say(f"{status.text}; {times(status)}")

    def say(self, line: str) -> None:
        click.echo(line, err=True)

    def close(self) -> None:
        """Leave the lines as they are."""


@contextmanager
def display() -> Iterator[Display]:
    """Yield what fits where errors and progress are written to."""
    shown: Display = Bar() if sys.stderr.isatty() else Lines()
    try:
        yield shown
    finally:
        shown.close()


def times(status: Status) -> str:
    """Return the time so far and the time left; nothing of the latter where there is no basis for it."""
    return ", ".join(part for part in (f"{duration(status.seconds)} so far", left(status)) if part)


def left(status: Status) -> str:
    """Return the time left in words; nothing where there is no basis for it."""
    if status.left is None:
        return ""
    return f"{'about' if status.left.all_counted else 'more than'} {roughly(status.left.seconds)} left"


def roughly(seconds: float) -> str:
    """Return a time no more exact than an estimate is: to ten seconds, from 90 on to a minute."""
    return duration(max(10, 10 * round(seconds / 10))) if seconds < 90 else duration(60 * round(seconds / 60))


def duration(seconds: float) -> str:
    """Return a time as people say it: "40 s", "7 min 20 s", "3 h 5 min"."""
    whole = round(seconds)
    parts = {"min": whole // 60, "s": whole % 60} if whole < 3600 else {"h": whole // 3600, "min": whole % 3600 // 60}
    return " ".join(f"{count} {unit}" for unit, count in parts.items() if count) or "0 s"
