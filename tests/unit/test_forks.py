"""Processes that are forked are to a test what started ones are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.forks import ROOT, Forked
from helpers.small_run import environment

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_a_forked_process_is_what_a_started_one_is(tmp_path: Path) -> None:
    def seen(kind: type[subprocess.Popen]) -> tuple[Any, ...]:
        with kind(
            [sys.executable, "-m", "helpers.probe", "--home", str(tmp_path)],
            cwd=ROOT,
            env=environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PREFECT_API_URL": "http://127.0.0.1:9/api"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            output, errors = process.communicate("asked", timeout=120)
        facts, *rest = sorted(output.splitlines(), reverse=True)
        return json.loads(facts), rest, errors, process.returncode

    forked = seen(Forked)
    assert forked == seen(subprocess.Popen)
    assert forked[0]["parent"] == os.getpid() and forked[0]["prefect"][:2] == [
        str(tmp_path / "prefect"),
        "http://127.0.0.1:9/api",
    ]


def test_a_forked_process_is_signalled_and_waited_for_as_any_other(tmp_path: Path) -> None:
    process = Forked(
        [sys.executable, "-m", "helpers.probe", "--home", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    time.sleep(0.5)
    before = sum(os.times()[2:4])
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(timeout=20) == -signal.SIGKILL and sum(os.times()[2:4]) > before  # its costs are counted
