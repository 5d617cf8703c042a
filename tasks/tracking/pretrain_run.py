"""The MLflow run of a pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from l2s_core.miniworld.training.pretrain import PretrainConfig, chain, predecessors_of
from l2s_core.miniworld.training.workshop import GRIDS
from tasks.tracking.store import experiment_id, find_run, log_metrics, log_params, open_store, watch_machine

CONFIG = "l2s.pretrain"  # tag: the configuration's digest; a resumed pretraining goes on in the same run


class PretrainRun:
    """Curves of every model, and the sample grids at the end; those of a training before have its name in front."""

    def __init__(self, home: Path, config: PretrainConfig) -> None:
        self.client = open_store(home)
        digest = config.digest()
        found = find_run(self.client, f"tags.`{CONFIG}` = '{digest}' and attributes.status = 'RUNNING'")
        run = found or self.client.create_run(experiment_id(self.client), run_name="pretrain", tags={CONFIG: digest})
        self.run_id = run.info.run_id
        if found is None:
            log_params(self.client, self.run_id, _settings(config))
        self._config = config
        self._monitor = watch_machine(self.run_id)

    def log(self, model: str, step: int, values: Mapping[str, float]) -> None:
        """Log values of one model at a step."""
        log_metrics(self.client, self.run_id, {f"{model}/{key}": value for key, value in values.items()}, step)

    def finish(self, work: Path) -> None:
        """Keep the sample grids of all that was trained in `work`, and close the run."""
        self._monitor.finish()
        for folder in chain(self._config):
            grids = work / folder / GRIDS
            if grids.is_dir():
                self.client.log_artifacts(self.run_id, str(grids), str(PurePosixPath(GRIDS, folder)))
        self.client.set_terminated(self.run_id, "FINISHED")


def _settings(config: PretrainConfig) -> dict[str, Any]:
    """Return the settings of every training, those before it by name, by folder and key."""
    settings: dict[str, Any] = {}
    for folder, one in chain(config).items():
        named = {key: first.name for key, first in predecessors_of(one).items()}
        values = one.model_dump(mode="json") | named
        settings |= {str(PurePosixPath(folder, key)): value for key, value in values.items()}
    return settings
