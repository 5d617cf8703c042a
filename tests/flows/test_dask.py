"""Shards on several worker processes: the same results as in one, and a killed worker loses only what it was doing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers import forks
from helpers.prefect_server import shared_server
from helpers.servers import free_port, l2s, l2s_here
from helpers.small_run import ROOT, command, environment, numbers, options, start
from safetensors.torch import load_file

from flows.runners import FOLDER, load_runner
from l2s_core.errors import UserError
from l2s_core.storage.files import read_json
from l2s_core.storage.store import read_tensors

pytestmark = [pytest.mark.server, pytest.mark.slow]


def assert_same_results(first: Path, second: Path) -> None:
    """Workers have other numbers of threads than the one process, so float32 sums run in another order.

    Far below what changes a plain image's verdict.
    """
    for path in sorted(first.glob("stages/noise/*/*.safetensors")):
        ours, theirs = (read_tensors(home / path.relative_to(first))[0] for home in (first, second))
        assert all((ours[name] - theirs[name]).abs().max() < 1e-3 for name in ours), path
    for path in sorted(first.glob("stages/classifier/*/*.safetensors")):
        ours, theirs = (load_file(home / path.relative_to(first)) for home in (first, second))
        assert all((ours[name] - theirs[name]).abs().max() < 1e-2 for name in ours), path
    for path in sorted(first.glob("stages/verdicts/*/verdicts.json")):  # plain and steered, by every classifier
        ours, theirs = (
            [row["correct"] for row in read_json(home / path.relative_to(first))["images"]] for home in (first, second)
        )
        assert sum(a != b for a, b in zip(ours, theirs, strict=True)) <= 1, (
            path
        )  # steering may turn an image that stands on the edge
    assert len(list(first.glob("stages/maps/*/*.parquet"))) == len(list(second.glob("stages/maps/*/*.parquet"))) == 3
    ours = numbers(first)
    theirs = numbers(second)
    assert (
        ours["plain"]["correct"] == theirs["plain"]["correct"]
        and ours["inversion"]["images"] == theirs["inversion"]["images"]
    )


def is_worker(process: psutil.Process, run: int) -> bool:
    """Whether a process below a run is a Dask worker: started by it, or forked by a process that it started."""
    words = " ".join(process.cmdline())
    return "spawn_main" in words or ("forkserver" in words and process.ppid() != run)


def test_two_workers_give_what_one_process_gives_and_a_killed_one_loses_only_its_shard(
    undisturbed: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, "--workers", "2")
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("stages/noise/*/*.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before a worker could be killed"
        time.sleep(0.1)
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("stages/noise/*/[!.]*")}
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if is_worker(p, process.pid)]
    assert workers, "no worker process found"
    os.kill(max(workers, key=lambda p: sum(p.cpu_times()[:2])).pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in finished.items())
    assert_same_results(undisturbed, tmp_path)


NAME = "l2s-test"
INSIDE = "10.77.41.2"
OUTSIDE = "10.77.41.1"


def ip(*arguments: str) -> bool:
    return shutil.which("ip") is not None and subprocess.run(["ip", *arguments], capture_output=True).returncode == 0


@pytest.fixture
def other_machine():
    """A network namespace with an address of its own, joined to this one by a pair of virtual cables.

    Yields the variables of a command that is to run there.
    """
    made = ip("netns", "add", NAME) and ip("link", "add", "l2s-here", "type", "veth", "peer", "name", "l2s-there")
    made = made and ip("link", "set", "l2s-there", "netns", NAME)
    made = made and ip("addr", "add", f"{OUTSIDE}/24", "dev", "l2s-here") and ip("link", "set", "l2s-here", "up")
    inside = ("netns", "exec", NAME, "ip")
    made = (
        made
        and ip(*inside, "addr", "add", f"{INSIDE}/24", "dev", "l2s-there")
        and ip(*inside, "link", "set", "l2s-there", "up")
    )
    made = made and ip(*inside, "link", "set", "lo", "up")
    try:
        if not made:
            pytest.skip("this system allows no network namespaces")
        inside = ["ip", "netns", "exec", NAME, "sh", "-c", "echo there && read -r go_on"]
        with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
            assert shell.stdout.readline() == "there\n"
            yield {forks.NAMESPACES: str(shell.pid)}
            shell.communicate("now\n", timeout=60)
    finally:
        ip("link", "del", "l2s-here")
        ip("netns", "del", NAME)


def test_a_worker_on_another_address(undisturbed: Path, other_machine: dict[str, str], tmp_path: Path) -> None:
    """A scheduler and servers here, the only worker there, with one unit of the resource that each task takes."""
    ports = {"prefect": free_port(), "mlflow": free_port()}
    options = [part for name, port in ports.items() for part in (f"--{name}-port", str(port))]
    home = tmp_path / "home"
    servers = l2s("up", "--host", OUTSIDE, *options, home=home)
    assert servers.returncode == 0 and "neither server asks who is there" in servers.stderr, servers.stderr
    variables = environment() | {
        "PREFECT_API_URL": f"http://{OUTSIDE}:{ports['prefect']}/api",
        "MLFLOW_TRACKING_URI": f"http://{OUTSIDE}:{ports['mlflow']}",
    }
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", OUTSIDE, "--port", "0", "--no-dashboard"]
    started = []
    try:
        address = f"tcp://{OUTSIDE}:{free_port()}"
        dask[dask.index("--port") + 1] = address.rpartition(":")[2]
        started.append(forks.Forked(dask, cwd=ROOT, env=variables))
        worker = [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            address,
            "--host",
            INSIDE,
            "--nthreads",
            "1",
            "--no-dashboard",
            "--no-nanny",
        ]
        worker += ["--resources", "GPU=1"]
        started.append(forks.Forked(worker, cwd=ROOT, env=variables | other_machine))
        done = forks.run(command(home, "--runner", "cuda", "--scheduler", address), env=variables)
        assert done.returncode == 0, done.stderr
        assert_same_results(undisturbed, home)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
        l2s("down", home=home)


def test_dask_without_a_server_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    done = l2s_here(*options("--workers", "2"), home=tmp_path)
    assert done.exit_code == 2 and "Dask workers report to a Prefect server" in done.stderr and "l2s up" in done.stderr


def test_runners_are_chosen_by_configuration_alone() -> None:
    for path in FOLDER.glob("*.yaml"):
        assert load_runner(path.stem).kind in ("threads", "dask")
    assert load_runner(None).kind == "threads"
    assert load_runner(None, workers=3).cluster_kwargs["n_workers"] == 3
    there = load_runner(None, scheduler="tcp://127.0.0.1:8786")
    assert there.kind == "dask" and there.scheduler == "tcp://127.0.0.1:8786" and there.cluster_class is None
    with pytest.raises(UserError, match="unknown runner 'slrum'; did you mean 'slurm'"):
        load_runner("slrum")
    with pytest.raises(UserError, match="leave --workers out"):
        load_runner(None, scheduler="tcp://127.0.0.1:8786", workers=2)
    with pytest.raises(UserError, match="threads has no workers"):
        load_runner("threads", workers=2)


def test_a_cluster_whose_package_is_missing_says_which(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", shared_server())
    done = l2s_here(*options("--runner", "slurm"), home=tmp_path)
    assert done.exit_code == 2 and re.search("dask_jobqueue.SLURMCluster needs the package dask-jobqueue", done.stderr)
