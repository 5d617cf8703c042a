"""Whether a run's figures are those of the last good run of the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2s_core.config import ToleranceConfig
from l2s_core.storage.files import read_json, write_json

FOLDER = "baselines"


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


def figures_of(summary: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return {kind: {figure: value}} of a summary; kinds are the keys of ToleranceConfig."""
    figures = {kind: {"plain": summary["plain"][kind]["rate"]} for kind in ("correct", "all_found")} | {"accuracy": {}}
    for name, entry in summary["classifiers"].items():
        for kind in ("correct", "all_found"):
            figures[kind][name] = entry["steered"][kind]["rate"]
        if "result" in entry:
            figures["accuracy"][name] = entry["result"]["test"]["accuracy"]
    for name, entry in summary.get("methods", {}).items():
        for kind in ("correct", "all_found"):
            figures[kind][name] = entry[kind]["rate"]
    return figures


def compare(
    now: Mapping[str, Mapping[str, float]], last: Mapping[str, Mapping[str, float]], tolerance: ToleranceConfig
) -> list[Comparison]:
    """Return every figure that both runs have."""
    return [
        Comparison(figure=f"{kind}, {name}", last=last[kind][name], now=value, allowed=getattr(tolerance, kind))
        for kind, values in now.items()
        for name, value in values.items()
        if name in last.get(kind, {})
    ]


def load_baseline(home: Path, run_id: str) -> dict[str, dict[str, float]] | None:
    """Return the figures of the last good run with this id, or None when there was none."""
    path = home / FOLDER / f"{run_id}.json"
    return read_json(path) if path.is_file() else None


def save_baseline(home: Path, run_id: str, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Make these figures the last good ones."""
    write_json(home / FOLDER / f"{run_id}.json", figures)
