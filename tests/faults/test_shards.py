"""Shards in groups.

The files of a run in which each is a task of its own, and a failure or a stop costs no finished one.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.prefect_server import forget_servers
from helpers.small_run import SETTINGS
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.context import FlowRunContext
from prefect.states import State
from prefect.testing.utilities import prefect_test_harness

from flows import progress, shards
from flows.display import Lines
from flows.progress import followed
from flows.shards import GROUPS, GROUPS_A_WORKER, grouped, run_over_shards
from flows.stages import build_dataset
from flows.workspace import RUNNER
from l2s_core.config import load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.run import Run
from l2s_core.planning.pace import PlannedStage, dataset_stages
from l2s_core.storage.store import read_tensors
from tasks.shards import abandon, over_shards

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    """A Prefect server of the module's own: what other tests' runs report to it would delay the count of task runs."""
    forget_servers()
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (14, 1), (200, 1), (200, 4), (1000, 30), (30, 200)])
def test_groups_are_few_even_and_in_order(count: int, workers: int) -> None:
    names = [f"{number:05d}" for number in range(count)]
    groups = grouped(names, workers)
    assert [name for group in groups for name in group] == names
    assert len(groups) == min(count, max(GROUPS, GROUPS_A_WORKER * workers))
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


@flow(task_runner=RUNNER)
def dataset(run: Run) -> str:
    with followed(dataset_stages(run)) as progress:
        build_dataset(run, False, progress)
    return str(FlowRunContext.get().flow_run.id)


def task_runs(flow_run: str, least: int) -> dict[str, int]:
    """How many task runs of each name a flow run had; waits for `least` of them, since a server hears of them late."""
    deadline = time.monotonic() + 60
    names: list[str] = []
    with get_client(sync_client=True) as client:
        while len(names) < least and time.monotonic() < deadline:
            found = client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [flow_run]}))
            names = [run.name.partition(",")[0] for run in found]
            time.sleep(0.2)
    return {name: names.count(name) for name in names}


def content(path: Path) -> Any:
    """A file's bytes.

    Of tensors these and their description, since safetensors writes the keys of a header in any order.
    """
    if path.suffix != ".safetensors":
        return path.read_bytes()
    tensors, description = read_tensors(path)
    return {
        name: (tensor.dtype, tensor.shape, tensor.numpy().tobytes()) for name, tensor in tensors.items()
    }, description


def files(home: Path) -> dict[Path, Any]:
    return {path.relative_to(home): content(path) for path in (home / "stages").rglob("*") if path.is_file()}


def test_groups_leave_the_files_that_single_shards_leave(
    prefect_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    settings = {
        **SETTINGS,
        "classifiers": {},
        "data.train": 1,
        "shard": 1,
    }
    monkeypatch.setattr(shards, "GROUPS", 2)
    monkeypatch.setattr(shards, "GROUPS_A_WORKER", 1)
    made = dataset(Run.of(load_run_config("mini-sd", settings), tmp_path / "few"))
    assert task_runs(made, 9) == {
        "choose scenes": 1,
        "prepare scenes": 2,
        "invert scenes": 2,
        "capture attention": 2,
        "sample trajectories": 2,
    }
    assert "invert scenes: 12/12 scenes" in capsys.readouterr().err
    monkeypatch.setattr(shards, "GROUPS", 100)
    made = dataset(Run.of(load_run_config("mini-sd", settings), tmp_path / "single"))
    assert task_runs(made, 49)["invert scenes"] == 12
    few = files(tmp_path / "few")
    single = files(tmp_path / "single")
    assert len(few) == 1 + 4 * 12 and few == single


class Work:
    """Shards that are files; one of them fails when it is made."""

    def __init__(self, folder: Path, fails: str | None = None, error: type[Exception] = RuntimeError) -> None:
        self.folder = folder
        self.fails = fails
        self.error = error
        self.tried = []

    def __call__(self, shard: str) -> str:
        path = self.folder / f"{shard}.json"
        if path.exists():
            return shard
        self.tried.append(shard)
        if shard == self.fails:
            raise self.error("no more memory")
        if self.fails and shard > self.fails:
            time.sleep(0.5)
        path.write_text(shard)
        return shard

    __name__ = "work"


NAMES = [f"{number:05d}" for number in range(40)]


def run(work: Work) -> list[str]:
    task = over_shards(work, name="work")

    @flow(task_runner=RUNNER)
    def whole() -> list[str]:
        given = {name: {"shard": name} for name in NAMES}
        with followed([PlannedStage(label="work", kind="work")]) as progress, progress.stage("work") as stage:
            return run_over_shards(task, given, dict.fromkeys(NAMES, 1), stage, "shards", work.folder)

    return whole()


@pytest.mark.parametrize(("error", "tries"), [(RuntimeError, 3), (UserError, 1)])
def test_a_failure_says_in_which_shard_it_was_and_costs_no_other(
    prefect_server, tmp_path: Path, error: type[Exception], tries: int
) -> None:
    """Tried again as often as any task; what is made before it stays, and the next run makes only the rest."""
    failing = Work(tmp_path, "00007", error)
    with pytest.raises(error, match="no more memory") as failure:
        run(failing)
    assert any("shard 00007" in note for note in failure.value.__notes__)
    assert any(
        "shard 00007" in note for note in pickle.loads(pickle.dumps(failure.value)).__notes__
    )  # as it comes from a Dask worker
    assert failing.tried.count("00007") == tries and failing.tried[:8] == NAMES[:8]
    assert len(failing.tried) - tries < 20  # those after it stop soon
    good = Work(tmp_path)
    assert run(good) == NAMES and set(good.tried).isdisjoint(set(failing.tried) - {"00007"}) and len(good.tried) > 30


def test_a_group_that_nobody_waits_for_ends_after_its_shard(tmp_path: Path) -> None:
    class Stopping(Work):
        def __call__(self, shard: str) -> str:
            if shard == "00002":
                abandon("token")
            return super().__call__(shard)

    work = Stopping(tmp_path)
    group = over_shards(work, name="work").fn
    state = group({name: {"shard": name} for name in NAMES}, {}, "token")
    assert isinstance(state, State) and state.is_cancelled() and "before shard 00003" in state.message
    assert work.tried == NAMES[:3]
    assert group({"00009": {"shard": "00009"}}, {}, "another") == ["00009"]


def test_a_group_on_dask_ends_when_its_flow_is_gone(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    go_on = tmp_path / "go-on"

    def work(shard: str) -> None:
        (tmp_path / shard).touch()
        while not go_on.exists():
            time.sleep(0.05)

    group = over_shards(work, name="work").fn
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        client = distributed.Client(cluster, set_as_default=False)
        future = client.submit(group, {name: {"shard": name} for name in NAMES}, {}, "still wanted")
        (worker,) = cluster.workers.values()
        deadline = time.monotonic() + 30
        while not (tmp_path / NAMES[0]).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert worker.state.tasks[future.key].state == "executing"
        client.close()
        while worker.state.tasks[future.key].state != "cancelled" and time.monotonic() < deadline:
            time.sleep(0.05)
        go_on.touch()
        while worker.state.tasks and time.monotonic() < deadline:
            time.sleep(0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAMES[0], "go-on"]


@pytest.mark.parametrize("label", ["sample images all_steps", "sample images v1.5", "train classifiers", "Wait/ for Ü"])
def test_any_name_of_a_method_makes_a_key_that_prefect_takes(label: str) -> None:
    """A name with an underscore or a dot ended the run after its dataset and its training."""
    assert ArtifactCreate(key=progress.artifact_key(label), data=0.0).key


def test_progress_counts_a_shard_of_a_group_when_its_file_is_there(
    prefect_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that lay there before, but one that was there before anybody looked.

    The artifact is asked for far more rarely.
    """
    (tmp_path / "00001.json").write_text("old")
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(progress, "ARTIFACT_SECONDS", 3600.0)
    monkeypatch.setattr(shards, "GROUPS", 1)
    monkeypatch.setattr(shards, "GROUPS_A_WORKER", 1)
    seen = []
    updates = []
    monkeypatch.setattr(progress, "update_progress_artifact", lambda _id, progress: updates.append(progress))
    monkeypatch.setattr(Lines, "show", lambda _self, status: seen.append(int(status.done.partition("/")[0] or 0)))

    class Waiting(Work):
        def __call__(self, shard: str) -> str:
            counted = {"00003": 2, "00039": 38}.get(shard)
            deadline = time.monotonic() + 30
            while counted and counted not in seen and time.monotonic() < deadline:
                time.sleep(0.01)
            return super().__call__(shard)

    follow = shards.follow

    def follow_late(*what: Any) -> list[str]:
        deadline = time.monotonic() + 30
        while not (tmp_path / "00002.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return follow(*what)

    monkeypatch.setattr(shards, "follow", follow_late)
    assert run(Waiting(tmp_path)) == NAMES
    assert {2, 38} < set(seen) and seen[-1] == 40 and updates == [100.0]
