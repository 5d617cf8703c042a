"""Faults that a run has to survive, made for real; after each the results are those of an undisturbed run."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from helpers import forks
from helpers.servers import free_port
from helpers.small_run import ROOT, command, environment, inherit, numbers, reproduce, shards, shared_environment, start

from flows.servers import LOCAL, start_servers, stop_servers

pytestmark = [pytest.mark.server, pytest.mark.slow]

EPOCHS = 120  # enough for MLflow to die in the middle of them


def test_two_runs_at_once_wait_for_each_other_and_agree(undisturbed: Path, tmp_path: Path) -> None:
    inherit(undisturbed, tmp_path, "catalogue", "scenes", "noise", "maps", "trajectories")
    both = [start(tmp_path), start(tmp_path)]
    outputs = [process.communicate(timeout=500)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("another run is using" in output for output in outputs) == 1
    assert numbers(tmp_path) == numbers(undisturbed)


def test_mlflow_killed_in_training_loses_no_metric(undisturbed: Path, tmp_path: Path) -> None:
    """Training goes on without the store; the run then says so, and the same command logs every epoch of it."""
    port = {"mlflow": free_port()}
    inherit(undisturbed, tmp_path, "catalogue", "scenes", "noise", "maps")
    many = ("--set", f"classifier.epochs={EPOCHS}", "--set", f"classifier.patience={EPOCHS}", "--set", "classifiers={}")
    start_servers(tmp_path, LOCAL, port, print)
    try:
        process = start(tmp_path, *many)
        deadline = time.monotonic() + 200
        while epochs_logged(tmp_path) < 3:
            assert process.poll() is None and time.monotonic() < deadline, "the run ended before MLflow could be killed"
            time.sleep(0.1)
        server = next(
            entry["pid"] for entry in json.loads((tmp_path / "servers.json").read_text()) if entry["name"] == "mlflow"
        )
        for victim in (*psutil.Process(server).children(recursive=True), psutil.Process(server)):
            victim.kill()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 2 and "stopped answering" in output and "the same command goes on" in output, (
            output
        )
        assert epochs_logged(tmp_path) < EPOCHS and list(tmp_path.glob("stages/classifier/*/result.json"))
        start_servers(tmp_path, LOCAL, port, print)
        trained = shards(tmp_path)
        done = reproduce(tmp_path, *many)
        assert done.returncode == 0, done.stderr
        assert epochs_logged(tmp_path) == EPOCHS
        assert all(shards(tmp_path)[path] == stamp for path, stamp in trained.items() if "classifier" in path.parts)
        assert numbers(tmp_path)["plain"] == numbers(undisturbed)["plain"]
    finally:
        stop_servers(tmp_path, print)


def epochs_logged(home: Path) -> int:
    """The most epochs that any MLflow run has of its training loss."""
    if not (home / "mlflow.db").is_file():
        return 0
    connection = sqlite3.connect(f"file:{home / 'mlflow.db'}?mode=ro", uri=True)
    try:
        counts = connection.execute(
            "SELECT count(*) FROM metrics WHERE key = 'train/loss' GROUP BY run_uuid"
        ).fetchall()
    except sqlite3.OperationalError:  # no tables yet
        counts = []
    finally:
        connection.close()
    return max((count for (count,) in counts), default=0)


# Interposed before the C library: the wall clock, as many seconds off as a file says; monotonic clocks stay.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long offset(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_OFFSET"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, now);
    if (code == 0 && id == CLOCK_REALTIME) now->tv_sec += offset();
    return code;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    int code = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec; now->tv_usec = exact.tv_nsec / 1000;
    return code;
}
time_t time(time_t *kept) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (kept) *kept = exact.tv_sec;
    return exact.tv_sec;
}
"""
DAY = 86_400


@pytest.mark.skipif(
    shutil.which("cc") is None, reason="needs a C compiler to put a clock of its own before the system's"
)
def test_a_clock_that_jumps_back_and_forth_changes_nothing(undisturbed: Path, tmp_path: Path) -> None:
    """The wall clock of the run and its server goes back two days in the middle, and three days on later."""
    home = tmp_path / "home"
    offset = tmp_path / "offset"
    library = tmp_path / "clock.so"
    (tmp_path / "clock.c").write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    offset.write_text("0")
    variables = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}
    process = subprocess.Popen(
        command(home),
        cwd=ROOT,
        env=environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for stage, jump in (("noise", -2 * DAY), ("maps", 3 * DAY)):
        deadline = time.monotonic() + 200
        while not list(home.glob(f"stages/{stage}/*/[!.]*")):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.05)
        offset.write_text(str(jump))
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert numbers(home) == numbers(undisturbed)
    seen = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env=environment() | variables,
        capture_output=True,
        text=True,
    )
    assert float(seen.stdout) - time.time() > 2 * DAY  # the clock really was another one


def can_mount() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    )


@contextmanager
def mounts(begin: str, end: str) -> Iterator[dict[str, str]]:
    """Variables of a command that is to have mounts of its own: those of a shell, made at its begin."""
    script = f"{begin} && echo made && read -r go_on; {end}"
    with subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout.readline() == "made\n"
        yield {forks.NAMESPACES: str(shell.pid)}
        shell.communicate("now\n", timeout=60)
    assert shell.returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a file system of its own, and this system allows none")
def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(undisturbed: Path, tmp_path: Path) -> None:
    """The folder of outputs on a disk of one megabyte, in a mount namespace; then the same folder with room again.

    The folder of configurations is read-only then: that is enough.
    """
    home = tmp_path / "home"
    kept = tmp_path / "kept"
    for folder in (home / "stages", kept):
        folder.mkdir(parents=True)
    with mounts(f"mount -t tmpfs -o size=1m none {home}/stages", f"cp -r {home}/stages/. {kept}") as variables:
        done = forks.run(command(home), env=shared_environment() | variables)
    assert done.returncode == 2 and "no space left on the disk" in done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )
    survivors = [path for path in kept.rglob("*") if path.is_file()]
    assert survivors and not [path for path in survivors if path.name.startswith(".")]  # no halves
    shutil.copytree(kept, home / "stages", dirs_exist_ok=True)
    configs = f"{ROOT}/configs"
    mount = f"mount --bind {configs} {configs} && mount -o remount,bind,ro {configs}"
    with mounts(f"{mount} && ! touch {configs}/x 2>/dev/null", "true") as variables:
        done = forks.run(command(home), env=shared_environment() | variables)
    assert done.returncode == 0, done.stderr
    assert numbers(home) == numbers(undisturbed)
