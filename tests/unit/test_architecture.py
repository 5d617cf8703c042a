"""Imports point one way: between the top folders, between the core's packages, and never in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"l2s_core": {"prefect", "mlflow", "tasks", "flows"}, "tasks": {"flows"}}
LAYERS = (
    "l2s_core.errors",
    "l2s_core.registry",
    "l2s_core.relations",
    "l2s_core.hashing",
    "l2s_core.sizes",
    "l2s_core.config",
    "l2s_core.storage",
    "l2s_core.prompts",
    "l2s_core.miniworld.world",
    "l2s_core.data",
    "l2s_core.diffusion",
    "l2s_core.attention",
    "l2s_core.backbones",
    "l2s_core.dataset",
    "l2s_core.classifier",
    "l2s_core.steering",
    "l2s_core.evaluation",
    "l2s_core.experiments",
    "l2s_core.planning",
    "l2s_core.report",
    "l2s_core.interface",
    "l2s_core.miniworld.training",
)
"""The core's packages in the order in which data flows; each may import those before it."""


def modules(package: str) -> dict[str, Path]:
    """Return the files of a package by their dotted names."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> set[str]:
    """Return the dotted names that a file imports: of `from a import b` both `a` and `a.b`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def layer(module: str) -> int | None:
    """Return the place of a module's package in the order; None for the packages' own roots."""
    places = [place for place, name in enumerate(LAYERS) if module == name or module.startswith(f"{name}.")]
    return places[0] if places else None


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the paths that lead back to where they began, one for each module that closes a circle."""
    found = []
    done = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for other in sorted(graph[module]):
            visit(other, [*path, module])
        done.add(module)

    for module in graph:
        visit(module, [])
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way_between_the_folders(package: str) -> None:
    wrong = {
        name: {other.split(".")[0] for other in imported(path)} & FORBIDDEN[package]
        for name, path in modules(package).items()
    }
    assert not {name: names for name, names in wrong.items() if names}


def test_every_module_of_the_core_has_its_layer() -> None:
    roots = {"l2s_core", "l2s_core.miniworld"}
    assert not {name for name in modules("l2s_core") if layer(name) is None} - roots


def test_a_package_of_the_core_imports_only_those_before_it() -> None:
    known = modules("l2s_core")
    wrong = []
    for name, path in known.items():
        for other in imported(path) & known.keys():
            if layer(name) is not None and layer(other) is not None and layer(other) > layer(name):
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = {name: path for package in ("l2s_core", "tasks", "flows") for name, path in modules(package).items()}
    graph = {name: (imported(path) & known.keys()) - {name} for name, path in known.items()}
    assert not circles(graph)


def test_tests_share_code_in_helpers_only() -> None:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    names = {path.stem for path in files} | {"conftest"}
    wrong = {path.name: imported(path) & names for path in files}
    assert not {name: others for name, others in wrong.items() if others}


def test_nothing_is_pickled() -> None:
    for path in (path for package in ("l2s_core", "tasks", "flows") for path in modules(package).values()):
        text = path.read_text(encoding="utf-8")
        assert "pickle" not in imported(path) and "torch.load(" not in text and "torch.save(" not in text, path
