"""Following a run: how far each stage and the whole are, on the terminal and as a progress artifact in Prefect."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture

from flows.display import Display, Status, display, duration
from l2s_core.planning.pace import Pace, PlannedStage, time_left
from tasks.progress import Told

LOOK_SECONDS = 0.5  # between looks at how far the tasks of a stage are
ARTIFACT_SECONDS = 5.0  # between two updates of the artifact: each asks the server


class RunProgress:
    """The stages of a run as they are worked on, and the time left for all of them."""

    def __init__(self, stages: Sequence[PlannedStage], shown: Display) -> None:
        self.stages = {stage.label: stage for stage in stages}
        self.shown = shown
        self.pace = Pace()
        self.done: dict[str, float] = {}
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """Write a line that stays."""
        self.shown.say(line)

    @contextmanager
    def stage(self, label: str) -> Iterator[StageProgress]:
        """Work on one of the stages."""
        plan = self.stages[label]
        number = list(self.stages).index(label) + 1
        stage = StageProgress(self, plan, f"stage {number} of {len(self.stages)}, {label}")
        stage.show()
        yield stage
        stage.end()
        self.done[label] = plan.left

    def show(self, stage: str, done: str) -> None:
        """Show what is done of a stage, and the time left."""
        left = time_left(list(self.stages.values()), self.done, self.pace)
        self.shown.show(Status(stage=stage, done=done, seconds=time.monotonic() - self._began, left=left))


class StageProgress:
    """One stage as it is worked on: how many of its pieces (scenes, images) are done, and what they took."""

    def __init__(self, run: RunProgress, plan: PlannedStage, heading: str) -> None:
        self.plan = plan
        self._run = run
        self._heading = heading
        self._began = self._looked = time.monotonic()
        self._since: float | None = None  # when the first new piece began, about
        self._fresh = 0.0
        self._done = 0
        self._text = ""

    def count(self, done: float, total: int, unit: str, *, fresh: float = 0.0, note: str = "") -> None:
        """Show how many of `total` are done; `fresh` of them, parts of one included, were made by this run.

        What was shown once is not taken back.
        """
        self._done = max(self._done, int(done))
        self._text = f"{self._done}/{total} {unit}{note}"
        self._fresh = max(self._fresh, fresh)
        self.show()

    def show(self) -> None:
        """Show the stage as it is, with the time of now."""
        now = time.monotonic()
        if self._fresh and self._since is None:
            self._since = self._looked
        self._looked = now
        self._measure(now)
        self._run.show(self._heading, self._text)

    def end(self) -> None:
        """Leave a line of what was done."""
        now = time.monotonic()
        self._measure(now)
        took = duration(now - self._began)
        self._run.say(f"{self._heading}: {self._text}, {took}" if self._text else f"{self._heading}: {took}")

    def _measure(self, now: float) -> None:
        if self._since is not None:
            units = self._fresh * self.plan.size
            self._run.pace.measure(self.plan, now - self._since, units)
            self._run.done[self.plan.label] = units


@contextmanager
def followed(stages: Sequence[PlannedStage]) -> Iterator[RunProgress]:
    """Show the progress of a run that has these stages."""
    with display() as shown:
        yield RunProgress(stages, shown)


def follow(
    futures: Sequence[PrefectFuture[Any]],
    stage: StageProgress,
    parts: Sequence[Mapping[str, int]],
    unit: str,
    written: Callable[[], set[str]] = set,
    told: Callable[[], Mapping[str, Told]] = dict,
) -> list[Any]:
    """Wait for futures in order, showing how many of `unit` are done; return their results.

    `parts` say for each future what it makes: names, and how many units each is. A part counts when its future is over,
    or as soon as `written` names it, and until then as far as it is `told` to be. The first failure is raised at once
    with its own exception.
    """
    sizes = {name: size for part in parts for name, size in part.items()}
    total = sum(sizes.values())
    results = []
    over: set[str] = set()
    artifact = _Artifact(stage.plan.label, total)

    def look() -> None:
        new = written() & sizes.keys()
        tales = {name: tale for name, tale in told().items() if name in sizes and tale.units}
        begun = {
            name: min(1.0, tale.units / (size * stage.plan.size)) * size
            for name, tale in tales.items()
            if name not in over | new and (size := sizes[name])
        }
        whole = sum(sizes[name] for name in over | new)
        made = sum(sizes[name] for name in new | (over & tales.keys()))
        part = sum(begun.values())
        stage.count(min(total, whole + part), total, unit, fresh=made + part, note=_so_far(told()))
        artifact.update(whole)

    for future, part in zip(futures, parts, strict=True):
        while not wrapped(future).done():
            future.wait(timeout=LOOK_SECONDS)
            look()
        results.append(future.result())
        over |= part.keys()
        look()
    return results


def result_of(future: PrefectFuture[Any], stage: StageProgress) -> Any:
    """Wait for one future, the stage's clock going on; return its result."""
    while not wrapped(future).done():
        future.wait(timeout=LOOK_SECONDS)
        stage.show()
    return future.result()


def _so_far(told: Mapping[str, Told]) -> str:
    """Return the first figures of images while others are made."""
    judged = sum(tale.judged for tale in told.values())
    return f", {sum(tale.right for tale in told.values()) / judged:.2f} of {judged} right" if judged else ""


def files_from_now(folder: Path) -> Callable[[], set[str]]:
    """Return a function that names the files of `folder`, without suffix, that were written after this call.

    Called before the work begins: a file of a worker that was quicker counts too.
    """
    before = _stamps(folder)
    return lambda: {name for name, stamp in _stamps(folder).items() if before.get(name) != stamp}


def wrapped(future: PrefectFuture[Any]) -> Any:
    """Return the runner's own future: that of a thread pool or of Dask, which both know done() and cancel()."""
    return future.wrapped_future  # type: ignore[attr-defined]  # the runners' futures have it, their base does not


def artifact_key(label: str) -> str:
    """Return a label as a key of Prefect's artifacts: lower-case letters, digits and dashes alone."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower())


def _stamps(folder: Path) -> dict[str, int]:
    """When each file of a folder, which may not be there yet, was written, by its name without suffix."""
    return {path.stem: path.stat().st_mtime_ns for path in folder.glob("[!.]*")}


class _Artifact:
    """A stage's progress artifact in Prefect."""

    def __init__(self, label: str, total: int) -> None:
        self._id: Any = create_progress_artifact(progress=0.0, key=artifact_key(label), description=label)
        self._total = total
        self._done = 0
        self._updated = time.monotonic()

    def update(self, done: int) -> None:
        if done <= self._done:
            return
        self._done = done
        if done == self._total or time.monotonic() > self._updated + ARTIFACT_SECONDS:
            update_progress_artifact(self._id, progress=100.0 * done / self._total)
            self._updated = time.monotonic()
