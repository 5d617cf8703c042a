"""Whether a deployment's figures are those that were accepted, and of the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

from l2s_core.config import ToleranceConfig
from l2s_core.config.dotted import dotted
from l2s_core.config.loading import is_file
from l2s_core.errors import unknown_name
from l2s_core.evaluation.run_summary import RunSummary
from l2s_core.storage.run_paths import RunPaths
from l2s_core.storage.runs import run_id_of
from l2s_core.storage.versioned import read_versioned, write_versioned

FOLDER = "baselines"
FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is held against the accepted run; each by name of a method, `accuracy` by name of a classifier.

    The fields are those of ToleranceConfig.
    """

    correct: Mapping[str, float]
    all_found: Mapping[str, float]
    accuracy: Mapping[str, float]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read them from their JSON object; raises KeyError for anything else."""
        return cls(**{field.name: dict(value[field.name]) for field in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One figure: then, now, and how far apart they may be."""

    figure: str
    last: float
    now: float
    allowed: float

    @property
    def ok(self) -> bool:
        return (
            abs(self.now - self.last) <= self.allowed + 1e-9
        )  # rates are ratios of counts: exactly the tolerance is inside


def figures_of(summary: RunSummary) -> Figures:
    """Return the figures of a run that are held against accepted ones."""
    methods = {name: figures.summary for name, figures in summary.by_method.items()}
    results = {name: classifier.result for name, classifier in summary.classifiers.items()}
    return Figures(
        correct={name: figures.correct.rate for name, figures in methods.items()},
        all_found={name: figures.all_found.rate for name, figures in methods.items()},
        accuracy={name: result.test["accuracy"] for name, result in results.items() if result is not None},
    )


def compare(now: Figures, last: Figures, tolerance: ToleranceConfig) -> list[Comparison]:
    """Return every figure that both runs have."""
    kinds = (
        ("correct", now.correct, last.correct, tolerance.correct),
        ("all_found", now.all_found, last.all_found, tolerance.all_found),
        ("accuracy", now.accuracy, last.accuracy, tolerance.accuracy),
    )
    return [
        Comparison(figure=f"{kind}, {name}", last=before[name], now=value, allowed=allowed)
        for kind, values, before, allowed in kinds
        for name, value in values.items()
        if name in before
    ]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of one run of a deployment, and what they are of: its settings, and the inputs that were there."""

    run_id: str
    settings: Mapping[str, Any]
    figures: Figures

    @classmethod
    def of(cls, paths: RunPaths, summary: RunSummary) -> Self:
        """Return what a finished run measured."""
        return cls(run_id=run_id_of(paths), settings=settings_of(paths), figures=figures_of(summary))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"run_id": self.run_id, "settings": self.settings, "figures": asdict(self.figures)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises KeyError or TypeError for anything else."""
        figures = Figures.from_json(value["figures"])
        return cls(run_id=value["run_id"], settings=dict(value["settings"]), figures=figures)

    def differences(self, other: Measured) -> list[str]:
        """Name every setting and input that two runs differ in, with this one's value first."""
        mine = dotted(self.settings)
        theirs = dotted(other.settings)
        keys = [key for key in sorted(mine | theirs) if mine.get(key) != theirs.get(key)]
        return [f"{key} {_shown(mine, key)} -> {_shown(theirs, key)}" for key in keys]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a deployment's runs are held against, and what its latest one measured.

    Whatever a deployment's settings become, it has one gate: other settings are told, and hold nobody's figures to
    be good until they are accepted by the deployment's name.
    """

    accepted: Measured
    latest: Measured

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"accepted": self.accepted.to_json(), "latest": self.latest.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises KeyError or TypeError for anything else."""
        return cls(accepted=Measured.from_json(value["accepted"]), latest=Measured.from_json(value["latest"]))


def settings_of(paths: RunPaths) -> dict[str, Any]:
    """Return what a run's figures depend on: its settings without `tolerance`, and the inputs' fingerprints."""
    inputs = paths.inputs
    return {
        **paths.config.model_dump(mode="json", exclude={"tolerance"}),
        "models": {"backbone": inputs.backbone, "judge": inputs.judge},
        "data files": list(inputs.data),
    }


def load_gate(home: Path, name: str) -> Gate | None:
    """Return the gate of a deployment, or None before its first run.

    Raises UserError, one line, for one that is damaged or that another version wrote.
    """
    path = gate_file(home, name)
    if not is_file(path):
        return None
    return read_versioned(
        path,
        FORMAT,
        Gate.from_json,
        what="figures of a deployment",
        remedy="delete it, and the figures of the next run are accepted",
    )


def save_gate(home: Path, name: str, gate: Gate) -> None:
    """Write the gate of a deployment."""
    write_versioned(gate_file(home, name), FORMAT, gate.to_json())


def accept(home: Path, name: str) -> Gate:
    """Have a deployment's runs held against what its latest one measured; return the gate as it was.

    Raises UserError for a deployment that has not run here.
    """
    gate = load_gate(home, name)
    if gate is None:
        names = sorted(unquote(path.stem) for path in (home / FOLDER).glob("*.json"))
        raise unknown_name("deployment with figures to accept", name, names)
    save_gate(home, name, replace(gate, accepted=gate.latest))
    return gate


def gate_file(home: Path, name: str) -> Path:
    """Where the gate of a deployment lies."""
    return home / FOLDER / f"{quote(name, safe=' ')}.json"


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not there"
