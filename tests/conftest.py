"""Shared fixtures: the shipped model, loaded once."""

from __future__ import annotations

import os
import signal
import tempfile
import time

os.environ["L2S_HOME"] = tempfile.mkdtemp(prefix="l2s-tests-")  # not the folder, and the servers, of whoever runs the tests

from flows.environment import prepare  # noqa: E402

prepare()  # before anything imports MLflow or the Hugging Face libraries: no telemetry

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from small_run import reproduce, shards, start  # noqa: E402

from l2s_core.backbones.unet import UNetBackbone  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home's own MLflow store: setting one leaves it in the environment, where the next test would find it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def backbone() -> UNetBackbone:
    return UNetBackbone.from_pretrained("mini-sd")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Path:
    """A home in which the small run was made by one process that nothing disturbed; not to be written to."""
    home = tmp_path_factory.mktemp("undisturbed")
    done = reproduce(home)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(scope="session")
def killed_and_resumed(tmp_path_factory) -> Path:
    """A home in which the small run was killed with SIGKILL in every stage, as soon as a file of it was there, and run to its end."""
    home = tmp_path_factory.mktemp("killed")
    for stage in ("catalogue", "scenes", "noise", "maps", "classifier", "samples", "verdicts"):
        process, deadline = start(home), time.monotonic() + 200
        while not list(home.glob(f"stages/{stage}/*/[!.]*")):
            assert process.poll() is None and time.monotonic() < deadline, f"the run ended before {stage}"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (home / "reports").exists()
    survivors = shards(home)
    done = reproduce(home)
    assert done.returncode == 0, done.stderr
    again = shards(home)
    assert survivors and all(again[path] == stamp for path, stamp in survivors.items() if not path.name.startswith("."))
    return home
