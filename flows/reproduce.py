"""The flows that build: the whole chain, and its beginning up to the trained classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.environment import HOME, prepare

prepare()

from prefect import flow  # noqa: E402

from flows.progress import followed  # noqa: E402
from flows.session import running  # noqa: E402
from flows.stages import build_dataset, train_classifiers, whole_chain  # noqa: E402
from flows.workspace import RUNNER  # noqa: E402
from l2s_core.planning.pace import dataset_stages  # noqa: E402
from l2s_core.report.summary import Report  # noqa: E402


@flow(name="reproduce", task_runner=RUNNER)
def reproduce(
    config: str = "mini-sd", overrides: dict[str, Any] | None = None, home: Path = HOME, rebuild: bool = False
) -> Report:
    """Scenes, inversion, attention dataset, classifiers, benchmark; returns the report.

    `overrides` maps dotted keys of the configuration to values. Finished stages are reused; `rebuild`
    writes damaged outputs anew.
    """
    with running("reproduce", config, overrides, home) as (run, conclude):
        return whole_chain(run, rebuild, conclude)


@flow(name="train", task_runner=RUNNER)
def train(
    config: str = "mini-sd", overrides: dict[str, Any] | None = None, home: Path = HOME, rebuild: bool = False
) -> dict[str, Path]:
    """The chain up to the trained classifiers; returns their folders by name."""
    with running("train", config, overrides, home) as (run, _), followed(dataset_stages(run)) as progress:
        folders = train_classifiers(run, build_dataset(run, rebuild, progress), rebuild, progress)
    return dict(zip(run.classifiers, folders, strict=True))
