"""The examples as they stand, with settings that are quick."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l2s_core as l2s

FOLDER = Path(l2s.__file__).parent / "interface" / "examples"
pytestmark = pytest.mark.slow


def run(name: str, **settings: str) -> dict[str, Any]:
    """Run an example with other values in its lines of settings; return what it has defined."""
    path = FOLDER / f"{name}.py"
    text = path.read_text(encoding="utf-8")
    for key, value in settings.items():
        text, changed = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert changed == 1, f"{path} has no setting {key}"
    defined: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, path, "exec"), defined)
    return defined


def test_steering_a_pipeline_of_ones_own(tmp_path: Path) -> None:
    """Steered by hand in the pipeline's own call, an image is that of the model."""
    made = run("steer_your_own_pipeline", SEEDS="range(1)", OUT=f"Path({str(tmp_path)!r})")
    ours, own = (np.asarray(image, np.int64) for image in (made["result"].images[0], made["own"]))
    assert np.abs(ours - own).max() <= 2
    assert {path.name for path in tmp_path.iterdir()} == {"steered.png", "own-call.png", "classifier"}


def test_training_a_classifier_for_a_new_model(tmp_path: Path) -> None:
    settings = {
        "data.train": 4,
        "data.val": 1,
        "data.test": 1,
        "inversion.iterations": 1,
        "inversion.min_psnr": 5,
        "backbone.steps": 6,
        "capture.steps": [1, 3],
        "steering.until_step": 3,
        "steering.updates": 2,
        "classifier.epochs": 2,
    }
    made = run(
        "train_a_classifier", SETTINGS=repr(settings), SEEDS="range(1)", OUT=f"Path({str(tmp_path / 'train')!r})"
    )
    assert len(made["returned"]) == 2 * len(made["scenes"]) == 48 and not made["bad"]
    model = l2s.load("mini-sd", tmp_path / "train" / "classifier", settings=settings)
    assert model.trained == made["trained"] and model.classifier.source.steps == (1, 3)
    card = (tmp_path / "train" / "classifier" / "README.md").read_text(encoding="utf-8")
    assert "| accuracy on 16 test records |" in card


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.png")), ids=lambda path: path.name)
def test_pictures_are_small_and_shown(path: Path) -> None:
    assert path.stat().st_size < 150_000 and f"]({path.name})" in (FOLDER / "README.md").read_text(encoding="utf-8")
