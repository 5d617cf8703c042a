"""Ctrl-C, SIGTERM and a dropped connection end a run within seconds, whatever its tasks are in the middle of."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any
from uuid import UUID

import click
import psutil
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows.processes import end_processes
from tasks.stage_task import shared_server

GRACE_SECONDS = 3.0
Handler = Callable[[int, FrameType | None], Any] | int | None
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ACTS_AS = {signal.SIGHUP: signal.SIGTERM}  # a terminal that is gone asks for what `kill` does
_last_words: list[Callable[[], None]] = []


@contextmanager
def last_words(say: Callable[[], None]) -> Iterator[None]:
    """Have `say` called when the process ends inside the block without unwinding it.

    It is called after the grace, in another thread.
    """
    _last_words.append(say)
    try:
        yield
    finally:
        _last_words.remove(say)


@contextmanager
def prompt_stop() -> Iterator[None]:
    """Let a signal act as it would, and end the process if that has not done so after a grace.

    A flow that is asked to stop waits for the tasks that run, and a shard may take minutes. Outputs appear under
    their names only when complete, so that leaving in the middle of one loses only that one. With a Prefect server
    of its own the process leaves at once, and takes that server with it; a shared server is told first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Handler] = {int(number): signal.getsignal(number) for number in SIGNALS}
    # nohup asks for a dropped connection to be ignored; a shell ignores Ctrl-C for its background jobs unasked
    ignored = [signal.SIGHUP] if before[signal.SIGHUP] == signal.SIG_IGN else []
    flow_run_id = flow_run.id if shared_server() else None
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        with suppress(OSError):  # a terminal that is gone cannot be written to
            click.echo("\nstopping; what is finished is kept, the same command goes on from there", err=True)
        timer = threading.Timer(GRACE_SECONDS, _leave, [number])
        timer.daemon = True
        timer.start()
        acting = ACTS_AS.get(signal.Signals(number), number)
        earlier = before[acting]
        signal.signal(acting, earlier)
        if callable(earlier):
            earlier(acting, frame)
        else:
            raise SystemExit(128 + number)  # unwinds, where the system's own action would leave the record running

    def tell_server() -> None:
        if flow_run_id is not None and asked:
            _cancel(flow_run_id, signal.Signals(asked[0]).name)

    for number in SIGNALS:
        if number not in ignored:
            signal.signal(number, stop)
    try:
        with last_words(tell_server):
            yield
    finally:
        if asked and not shared_server():
            _leave(asked[0])
        tell_server()
        for number in SIGNALS:
            signal.signal(number, before[number])


def _cancel(flow_run_id: str, by: str) -> None:
    """Tell a server that others use that a flow run has ended; it would show it as running for ever."""
    with suppress(Exception), get_client(sync_client=True) as client:  # a server that is away is not waited for
        client.set_flow_run_state(UUID(flow_run_id), Cancelled(message=f"stopped by {by}"), force=True)


def _leave(number: int) -> None:
    """End this process and those it started, after the last words of blocks that did not get to theirs."""
    speaker = threading.Thread(target=_speak, daemon=True)
    speaker.start()
    speaker.join(GRACE_SECONDS)  # a server that hangs holds nobody up
    end_processes(psutil.Process().children(recursive=True), patience=1)
    os._exit(128 + number)


def _speak() -> None:
    """Say the last words, those of inner blocks first."""
    for say in reversed(list(_last_words)):
        say()
