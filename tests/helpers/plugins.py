"""Installed packages that add to the project's tables, made for a test."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, code: str, points: Mapping[str, Mapping[str, str]]
) -> None:
    """Put a package of one module where Python finds it, as pip would, until the test ends.

    `points` maps groups of entry points to {name: attribute of the module}.
    """
    lines = []
    for group, entries in points.items():
        lines += [f"[{group}]", *(f"{entry} = {name}:{attribute}" for entry, attribute in entries.items())]
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
