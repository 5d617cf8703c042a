"""What a run leaves beside its outputs: its record, and a log of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.interrupt import last_words
from flows.planning import plan
from flows.workspace import limit_gpu_tasks, locked, name_flow_run
from l2s_core.config import own_overrides
from l2s_core.errors import masked
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.run_summary import RunSummary
from l2s_core.storage import runs
from l2s_core.storage.files import make_folder

LOGGERS = ("prefect", "l2s")
Conclude = Callable[..., None]
log = logging.getLogger("l2s")


class _Masked(logging.Formatter):
    """Writes no password of an address into a log, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class Pruned(Exception):
    """Raised in a run to end it: it is not worth its images."""


@contextmanager
def running(
    flow: str,
    config: str,
    overrides: dict[str, Any] | None,
    home: Path,
    classifier: Path | None = None,
    cache_salt: str = "",
    varied: Mapping[str, Any] | None = None,
) -> Iterator[tuple[Run, Conclude]]:
    """Hold the folder of runs, plan the run, and keep its record and log.

    `varied` is what tells the run from others of its name, by default what the user's `overrides` say.
    Yields the run and a function for the final summary.

    That function takes the folder of the report as well, where the run has written one.
    """
    with locked(home) as sign:
        run = plan(config, overrides, home, classifier, cache_salt)
        run = replace(run, varied=own_overrides(overrides or {}) if varied is None else varied)
        limit_gpu_tasks()
        with _recorded(run, flow, sign) as conclude:
            yield run, conclude


@contextmanager
def _recorded(run: Run, flow: str, sign: Callable[[str], None]) -> Iterator[Conclude]:
    record = runs.begin(run.paths, flow)
    headline = {}
    sign(record.run_id)
    if flow != "sweep":  # whose points share one flow run
        name_flow_run(record.run_id, run.config)
    path = _log_path(run.home, record.run_id)
    with _logged(path):
        log.info("%s begins: %s", record.run_id, run.config.model_dump_json())

        def conclude(summary: RunSummary, report: Path | None = None) -> None:
            nonlocal record
            headline.update(_headline(summary))
            if report is not None:
                record = runs.reported(run.home, record, report)

        def stopped(by: str) -> None:
            log.warning("stopped by %s", by)
            runs.end(run.home, record, runs.STOPPED)

        try:
            with last_words(lambda: stopped("a signal, in the middle of a task")):
                yield conclude
        except Pruned:
            log.info("pruned")
            runs.end(run.home, record, runs.PRUNED)
            raise
        except Exception:
            log.exception("failed")
            runs.end(run.home, record, runs.FAILED)
            raise
        except BaseException as stop:  # Ctrl-C, or Prefect's own signal that a run is to end
            stopped(type(stop).__name__)
            raise
        log.info("finished: %s", headline)
        runs.end(run.home, record, runs.FINISHED, headline)


def _log_path(home: Path, run_id: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return make_folder(home / runs.LOGS) / f"{run_id}-{stamp}.log"


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Write what Prefect and the flows log into a file, too."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Masked("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.setLevel(logging.INFO)
    log.propagate = False
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        handler.close()


def _headline(summary: RunSummary) -> dict[str, float]:
    """The few figures that tell runs apart."""
    figures = {"plain correct": summary.plain.summary.correct.rate}
    for name, classifier in summary.classifiers.items():
        steered = classifier.steered.summary
        figures |= {f"{name} correct": steered.correct.rate, f"{name} all_found": steered.all_found.rate}
    return figures
