"""Shared fixtures: the shipped model, loaded once in each process of the tests, and homes that all of them share."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator

# Threads of each process of the tests, and of each one that it starts; set before torch is imported.
THREADS = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
# Not the folder, and not the servers, of the person who runs the tests.
os.environ["L2S_HOME"] = tempfile.mkdtemp(prefix="l2s-tests-")

from flows.environment import prepare  # noqa: E402

for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    signal.signal(number, usual)  # nohup, or a shell's background, has processes and their children ignore them

prepare()  # before anything imports MLflow or the Hugging Face libraries: no telemetry

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402
from helpers import databases, forks, session  # noqa: E402
from helpers.killed import kill_in_every_stage  # noqa: E402
from helpers.prefect_server import end_session, forget_servers, shared_server  # noqa: E402
from helpers.small_run import reproduce, shards  # noqa: E402

from l2s_core.backbones.unet import UNetBackbone  # noqa: E402

pytest_plugins = ["helpers.costs"]

LONGEST = (
    "faults/test_faults.py",
    "flows/test_dask.py",
    "flows/test_flow.py",
    "flows/test_sweeps.py",
    "flows/test_family_flows.py",
    "unit/test_doctor.py",
    "unit/test_pretrain.py",
    "flows/test_tracking.py",
    "faults/test_runs.py",
    "flows/test_methods.py",
    "flows/test_scheduled.py",
)
"""The files that take the most minutes, longest first."""


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        session.begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        end_session()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    forks.end()  # before its costs are summed up


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process is left alone with one of them at the end."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(THREADS)


@pytest.fixture(scope="session", autouse=True)
def make_database() -> Iterator[Callable[[Path], None] | None]:
    """What makes an MLflow database; all but the first of a session are copies (`helpers/databases.py`)."""
    store = sys.modules.get("tasks.tracking.store")
    if store is None:  # no test here has one
        yield None
        return
    make = store._create_sqlite
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_create_sqlite", databases.copied(make))
        yield make


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home's own MLflow store: setting one leaves it in the environment, where the next test would find it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def backbone() -> UNetBackbone:
    return UNetBackbone.from_pretrained("mini-sd")


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    """The Prefect server that the tests share, for flows that run in this process."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    forget_servers()
    with temporary_settings({PREFECT_API_URL: shared_server()}):
        yield


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` fills; the processes of a test session share it."""
    root = factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.getbasetemp()
    home = root / name
    made = root / f"{name}.made"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(home, ignore_errors=True)  # of a process that failed
            home.mkdir()
            make(home)
            made.touch()
    return home


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the small run was made by one process that nothing disturbed; not to be written to."""

    def make(home: Path) -> None:
        done = reproduce(home, alone=True)
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "undisturbed", make)


@pytest.fixture(scope="session")
def killed_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the small run was killed in every stage and then run to its end."""

    def make(home: Path) -> None:
        kill_in_every_stage(home)
        survivors = shards(home)
        done = reproduce(home)
        assert done.returncode == 0, done.stderr
        again = shards(home)
        assert survivors and all(
            again[path] == stamp for path, stamp in survivors.items() if not path.name.startswith(".")
        )

    return made_once(tmp_path_factory, "killed", make)
