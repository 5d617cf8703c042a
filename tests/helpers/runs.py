"""Runs without models: their addresses are made of names in place of fingerprints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from l2s_core.config import RunConfig, load_run_config
from l2s_core.data.source import source_of
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.evaluation.run import Run, asked_digest, items_digest
from l2s_core.hashing import digest
from l2s_core.storage.run_paths import Inputs, RunPaths


def run_of(
    home: Path,
    config: RunConfig | None = None,
    *,
    given: Path | None = None,
    cache_salt: str = "",
    inputs: dict[str, Any] | None = None,
    **overrides: Any,
) -> Run:
    """Return the run of a configuration, by default mini-sd's with `overrides`, whose dots are two underscores."""
    if config is None:
        config = load_run_config("mini-sd", {key.replace("__", "."): value for key, value in overrides.items()})
    if given is not None:
        config = config.model_copy(update={"classifiers": {}})
    items = benchmark_items(config)
    made_from = Inputs(
        backbone="b",
        judge="j",
        size=64,
        source=digest(source_of(config.data).identity()),
        items=items_digest(items),
        asked=asked_digest(items),
        given="g" if given else None,
    )
    made_from = replace(made_from, **(inputs or {}))
    return Run(paths=RunPaths(config=config, home=home, inputs=made_from, given=given, cache_salt=cache_salt))
