"""The package as a wheel: what it holds, and that its command works away from the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.small_run import ROOT

pytestmark = pytest.mark.slow

PACKAGES = ("configs", "flows", "l2s_core", "tasks")
DATA = {".yaml", ".html", ".css", ".safetensors", ".json", ".typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building leaves folders beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    for name in (*PACKAGES, "tests", "mlruns"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "stages", "*.db"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*build, "-w", folder, sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_a_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode == 0:
        wanted = {
            name
            for name in tracked.stdout.splitlines()
            if Path(name).suffix in DATA | {".py"} and "training/checkpoints" not in name
        }
        assert not wanted - names
    assert {name.partition("/")[0] for name in names} == set(PACKAGES)
    assert not [name for name in names if "checkpoints/" in name]


def test_its_command_runs_away_from_the_sources_and_keeps_runs_in_the_working_directory(
    wheel: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    here = tmp_path / "here"
    here.mkdir()
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("L2S_", "PREFECT_", "MLFLOW_"))}

    def l2s(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = f"import sys; sys.path.insert(0, {str(site)!r}); from flows.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments],
            cwd=here,
            env={**variables, "PYTHONPATH": ""},
            capture_output=True,
            text=True,
        )

    listed = l2s("runs")
    assert listed.returncode == 0 and f"no runs in {here / 'mlruns'}" in listed.stdout, listed.stderr
    planned = l2s("sweep", "steering", "--dry-run")
    assert planned.returncode == 0 and "a search of 12 points of mini-sd" in planned.stdout, planned.stderr
