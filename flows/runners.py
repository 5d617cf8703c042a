"""Where the tasks of a flow run: in this process, or on Dask workers."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

from prefect import Flow
from prefect.task_runners import TaskRunner

from flows.imports import NEEDED
from l2s_core.config import CONFIG_FOLDER, Section, read_yaml, validate
from l2s_core.errors import UserError, unknown_name

FOLDER = CONFIG_FOLDER / "runners"
LOCAL = "distributed.LocalCluster"


class RunnerConfig(Section):
    """A task runner: `threads` is this process, `dask` a cluster.

    A cluster is started, or one that is there is used (`scheduler`).

    `resources` are what each task takes of its worker, so that one GPU has one task.
    """

    kind: Literal["threads", "dask"]
    scheduler: str | None = None
    cluster_class: str | None = None
    cluster_kwargs: dict[str, Any] = {}
    resources: dict[str, float] = {}


def load_runner(name: str | None, scheduler: str | None = None, workers: int | None = None) -> RunnerConfig:
    """Return configs/runners/<name>.yaml with a scheduler's address or a number of workers put in; raises UserError.

    Without a name, `--scheduler` and `--workers` mean dask, and neither of them means threads.
    """
    name = name or ("dask" if scheduler or workers else "threads")
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise unknown_name("runner", name, (p.stem for p in FOLDER.glob("*.yaml")))
    tree = read_yaml(path)
    if (scheduler or workers) and tree.get("kind") != "dask":
        raise UserError(f"runner {name} has no workers; --scheduler and --workers are for dask")
    if scheduler and workers:
        raise UserError("--scheduler names a cluster that has its workers; leave --workers out")
    if scheduler:
        tree |= {"scheduler": scheduler, "cluster_class": None, "cluster_kwargs": {}}
    if workers:
        tree["cluster_kwargs"] = {**tree.get("cluster_kwargs", {}), "n_workers": workers}
    return validate(RunnerConfig, tree, str(path))


@contextmanager
def on(flow: Flow, config: RunnerConfig) -> Iterator[Callable[..., Any]]:
    """Yield the flow with its tasks on the configured runner."""
    if config.kind == "threads":
        yield flow
        return
    if not os.environ.get("PREFECT_API_URL"):
        raise UserError(
            "Dask workers report to a Prefect server, and there is none; start it with 'l2s up', or set PREFECT_API_URL"
        )
    try:
        import dask
        from prefect_dask import DaskTaskRunner
    except ImportError:
        raise UserError("Dask is not installed; pip install 'learn-to-steer[dask]'") from None
    where: dict[str, Any] = (
        {"address": config.scheduler}
        if config.scheduler
        else {"cluster_class": _cluster_class(config.cluster_class), "cluster_kwargs": config.cluster_kwargs}
    )
    runner: TaskRunner[Any] = DaskTaskRunner(**where)
    threads = max(1, (os.cpu_count() or 1) // int(config.cluster_kwargs.get("n_workers", 1)))
    settings = {
        f"distributed.nanny.pre-spawn-environ.{name}": threads
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    resources = dask.annotate(resources=config.resources) if config.resources else nullcontext()
    with dask.config.set(settings), _forked() if config.cluster_class == LOCAL else nullcontext(), resources:
        yield flow.with_options(task_runner=runner)


@contextmanager
def _forked() -> Iterator[None]:
    """Have workers here be forks of one process, which imports for all of them and shares that memory.

    Not beside a GPU: a process that has touched one cannot be forked, and what is imported may touch it.
    """
    import dask
    import torch
    from distributed.utils import get_mp_context

    if sys.platform != "linux" or torch.cuda.is_available():
        yield
        return
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["distributed", "prefect_dask", *NEEDED])
        yield


def workers(runner: TaskRunner[Any]) -> int:
    """Return how many tasks a runner works on at once: on Dask those workers' threads that have come or are to come."""
    client = getattr(runner, "client", None)
    if client is None:
        return 1
    to_come = getattr(runner, "cluster_kwargs", {}).get("n_workers", 1)
    return max(sum(client.nthreads().values()), int(to_come))


def _cluster_class(name: str | None) -> type:
    module, _, attribute = (name or LOCAL).rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError:
        raise UserError(
            f"{name} needs the package {module.partition('.')[0].replace('_', '-')}; pip install it"
        ) from None
