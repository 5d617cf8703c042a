"""Imports point one way, and the core knows neither Prefect nor MLflow."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {"l2s_core": {"prefect", "mlflow", "tasks", "flows"}, "tasks": {"flows"}}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package: str) -> None:
    wrong = {str(p): imported(p) & FORBIDDEN[package] for p in (ROOT / package).rglob("*.py")}
    assert not {path: names for path, names in wrong.items() if names}


def test_nothing_is_pickled() -> None:
    for path in (p for package in ("l2s_core", "tasks", "flows") for p in (ROOT / package).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert "pickle" not in imported(path) and "torch.load(" not in text and "torch.save(" not in text, path
