"""The flow that measures an existing classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.environment import HOME, prepare

prepare()

from prefect import flow  # noqa: E402

from flows.progress import followed  # noqa: E402
from flows.session import running  # noqa: E402
from flows.stages import sample_and_judge, write_and_publish  # noqa: E402
from flows.workspace import RUNNER  # noqa: E402
from l2s_core.backbones.folder import shipped_classifier  # noqa: E402
from l2s_core.planning.pace import REPORT, image_stages  # noqa: E402
from l2s_core.report.summary import Report  # noqa: E402
from tasks.report import write_comparison  # noqa: E402


@flow(name="benchmark", task_runner=RUNNER)
def benchmark(
    config: str = "mini-sd",
    classifier: Path | None = None,
    overrides: dict[str, Any] | None = None,
    home: Path = HOME,
    rebuild: bool = False,
) -> tuple[Report, list[Path]]:
    """Sample plain images and images steered by one classifier; return the report and its files.

    The classifier is a folder, by default the shipped one.

    `rebuild` writes damaged outputs anew.
    """
    with (
        running("benchmark", config, overrides, home, classifier or shipped_classifier(config)) as (run, conclude),
        followed([*image_stages(run), REPORT]) as progress,
    ):
        sample_and_judge(run, rebuild, progress)
        return write_and_publish(run, write_comparison, conclude, progress)
