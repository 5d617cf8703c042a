"""Ablations: sweeps around a run's configuration.

That configuration is the reference that every other point is held against. Pure; flows run the points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from l2s_core.config import CONFIG_FOLDER, RunConfig, Section, find_config, load_run_config, read_yaml, validate
from l2s_core.config.relative import resolve, value_at
from l2s_core.errors import UserError
from l2s_core.evaluation.protocols.protocol import protocol_of
from l2s_core.experiments.sweeps import Point, SweepConfig, point

FOLDER = CONFIG_FOLDER / "ablations"
REFERENCE = "as configured"
SEED = "classifier.seed"


class AblationPoint(Section):
    """A point: what it sets, and which configurations it is for.

    What it sets are values, or relative to the reference (see config/relative.py).

    `only` maps dotted keys of the reference to the values it must have; without it, a point is for all.
    """

    label: str = Field(min_length=1)
    set: dict[str, Any] = Field(min_length=1)
    only: dict[str, tuple[Any, ...]] = {}


class AblationConfig(Section):
    """One question about a run, and the points that answer it.

    With `cumulative`, a point also sets what those before it set. With `seeds`, every point, the reference included, is
    run once for each of these seeds of the classifier. One that is `named_only` runs where it is named.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str = Field(min_length=1)
    question: str = Field(min_length=1)
    cumulative: bool = False
    named_only: bool = False
    seeds: tuple[int, ...] = ()
    points: tuple[AblationPoint, ...] = Field(min_length=1)

    @property
    def runs_a_point(self) -> int:
        """How many runs a point has."""
        return max(1, len(self.seeds))


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """An ablation of one run: its sweep, whose first points are the reference, once for each seed.

    Points that are left out stand there with the reason.
    """

    config: AblationConfig
    run: RunConfig
    sweep: SweepConfig
    points: list[Point]
    left_out: dict[str, str]


def load_ablation(path: str | Path) -> AblationConfig:
    """Read an ablation by path, or by name from configs/ablations; raises UserError, one line."""
    found = find_config(path, FOLDER, "ablation")
    return validate(AblationConfig, read_yaml(found), str(found))


def plan_ablations(
    config: str, names: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> list[Ablation]:
    """Return the named ablations of a run's configuration, or all that ship, but for those that are to be named.

    `overrides` are put into the configuration first. Raises UserError, one line.
    """
    shipped = (load_ablation(name) for name in sorted(path.stem for path in FOLDER.glob("*.yaml")))
    chosen = [load_ablation(name) for name in names] or [one for one in shipped if not one.named_only]
    settings = _shared_settings(config, overrides or {})
    return [_around(ablation, config, settings) for ablation in {one.name: one for one in chosen}.values()]


def _shared_settings(config: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What every point sets: the user's own, one classifier and no further methods, and the development suite."""
    settings = {**overrides, "classifiers": {}, "methods": {}}
    run = load_run_config(config, settings)
    if not {"benchmark", "benchmark.suite"} & set(overrides):
        size = protocol_of(run).DEV_BENCHMARK
        own = {"suite": "dev"} if size is None else read_yaml(CONFIG_FOLDER / "benchmarks" / f"{size}.yaml")
        settings["benchmark"] = {**run.benchmark.model_dump(mode="json"), **own}
        run = load_run_config(config, settings)
    if run.benchmark.suite == "test":
        raise UserError(
            "benchmark.suite is test, which is for reporting alone; ablations are judged on dev, so leave it out"
        )
    if run.benchmark.file is not None:
        raise UserError(
            "benchmark.file has the prompts that are reported; "
            "ablations are judged on own ones of the suite dev, so leave it out (null)"
        )
    return settings


def _around(ablation: AblationConfig, config: str, settings: dict[str, Any]) -> Ablation:
    run = load_run_config(config, settings)
    chosen, left_out = _points(ablation, config, settings, run)
    runs = {name: each for label, varied in chosen.items() for name, each in _by_seed(label, varied, ablation).items()}
    sweep = SweepConfig(name=f"{run.name}-{ablation.name}", config=config, set=settings, points=tuple(runs.values()))
    points = [point(sweep, varied, name=name) for name, varied in runs.items()]
    return Ablation(config=ablation, run=run, sweep=sweep, points=points, left_out=left_out)


def _by_seed(label: str, varied: dict[str, Any], ablation: AblationConfig) -> dict[str, dict[str, Any]]:
    """Return what the runs of a point vary, by name."""
    if not ablation.seeds:
        return {label: varied}
    return {f"{label}, seed {seed}": {**varied, SEED: seed} for seed in ablation.seeds}


def _points(
    ablation: AblationConfig, config: str, settings: dict[str, Any], run: RunConfig
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return what the points vary by label, the reference first, and why others are left out.

    A point is left out that is not meant for this run, or is the same as one before it.
    """
    tree = run.model_dump(mode="json")
    chosen: dict[str, dict[str, Any]] = {REFERENCE: {}}
    left_out = {}
    before: dict[str, Any] = {}
    runs = {REFERENCE: run}
    for entry in ablation.points:
        other = [
            f"{key} {value_at(tree, key)}" for key, allowed in entry.only.items() if value_at(tree, key) not in allowed
        ]
        if other:
            left_out[entry.label] = f"not for {', '.join(other)}"
            continue
        own = {key: resolve(key, value, tree) for key, value in entry.set.items()}
        varied = {**before, **own}
        before = varied if ablation.cumulative else {}
        made = _valid(config, {**settings, **varied})
        twin = next((label for label, other_run in runs.items() if other_run == made), None)
        if twin is not None:
            left_out[entry.label] = f"the same as {twin!r}"
            continue
        chosen[entry.label] = varied
        runs |= {entry.label: made} if made else {}
    return chosen, left_out


def _valid(config: str, settings: dict[str, Any]) -> RunConfig | None:
    """Return the run of a point, or None for one that cannot run: it stays a point, and fails with its own reason."""
    try:
        return load_run_config(config, settings)
    except UserError:
        return None
