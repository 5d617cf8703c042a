"""The flow that measures an existing classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.environment import HOME, prepare

prepare()

from prefect import flow  # noqa: E402

from flows.progress import followed, result_of  # noqa: E402
from flows.publish import publish  # noqa: E402
from flows.session import running  # noqa: E402
from flows.stages import sample_and_judge  # noqa: E402
from flows.workspace import RUNNER  # noqa: E402
from l2s_core.backbones.folder import shipped_classifier  # noqa: E402
from l2s_core.planning.pace import REPORT, image_stages  # noqa: E402
from l2s_core.report.comparison import report_files  # noqa: E402
from l2s_core.report.summary import Report  # noqa: E402
from tasks.report import log_benchmark, write_comparison  # noqa: E402


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
        with progress.stage(REPORT.label) as stage:
            report = result_of(write_comparison.submit(run), stage)
            files = report_files(run.paths.report)
            conclude(report.run, run.paths.report)
            log_benchmark(run, report.run, files)
            publish(report.run, files)
    return report, files
