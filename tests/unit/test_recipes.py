"""Recipes of the core's READMEs, followed as they stand there."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.plugins import install
from helpers.runs import run_of

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig, load_run_config
from l2s_core.dataset.collect import map_source
from l2s_core.diffusion.sampler import Batch, Sampler
from l2s_core.diffusion.sampling import initial_noise
from l2s_core.evaluation.methods.method import SampleContext
from l2s_core.prompts.prompt import Triplet, prompt_for
from l2s_core.steering.steering import Steering
from l2s_core.steering.targets import Targets

CORE = Path(__file__).parents[2] / "l2s_core"
SETTINGS = {"backbone.steps": 4, "capture.steps": [1, 2], "steering.until_step": 3, "steering.updates": 2}
PROMPTS = [
    prompt_for(Triplet(subject="dog", relation=relation, object="cat"), prefix="a photo of ")
    for relation in ("left of", "above")
]


def blocks(readme: Path, heading: str) -> list[str]:
    """Return the Python blocks of a section."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", readme.read_text(encoding="utf-8"), re.M | re.S)
    return [textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```", section, re.M | re.S)]


def test_an_objective_is_added_by_its_recipe(backbone) -> None:
    written, used = blocks(CORE / "README.md", "Add an objective")
    names: dict[str, Any] = {
        "__name__": __name__,
        "backbone": backbone,
        "run": load_run_config("mini-sd", SETTINGS),
        "prompts": PROMPTS,
        "seeds": [3, 4],
        "map_source": map_source,
        "partial": partial,
        "Sampler": Sampler,
        "Steering": Steering,
    }
    exec(written, names)
    exec(used, names)
    steered = names["steered"]
    assert steered.images.shape == (2, 64, 64, 3) and steered.observers[0].cost.gradients.sum() > 0

    objective = replace(names["objective"], enough=0.0)
    maps = torch.zeros(2, 2, 3, 16, 16)
    maps[:, 0, :, :, 4] = 1 / 16
    maps[0, 1, :, :, 4] = 1 / 16
    maps[1, 1, :, :, 9] = 1 / 16
    label_B = torch.tensor([0, 0])
    assert torch.allclose(objective.loss(maps, label_B, label_B), torch.tensor([1.0, 0.0]))
    assert objective.satisfied(torch.tensor([1.0, 0.0, float("nan")])).tolist() == [False, True, False]

    batch = Batch.of(backbone, PROMPTS, steps=4)
    gentle = SteeringConfig(until_step=3, updates=3, step_size=0.02, normalize="rms")
    steer = Steering(batch, objective=objective, config=gentle)
    z = initial_noise([3, 4], backbone.latent_shape)
    everyone = torch.arange(2)
    moved = steer(z, 1)
    with torch.no_grad():
        before, after = (steer._loss(at, everyone, 1, Targets.of(PROMPTS)) for at in (z, moved))
    assert (after < before).all()


METHOD_IMPORTS = """
from __future__ import annotations
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal
import torch
from pydantic import Field
from l2s_core.config import RunConfig
from l2s_core.evaluation.methods.method import Method, SampleContext
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.samples import SampleShard, sample_items
from l2s_core.evaluation.work import Work
from l2s_core.storage.run_paths import RunPaths
"""


def test_a_method_is_added_by_its_recipe(backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (written,) = blocks(CORE / "evaluation" / "README.md", "Add a method of sampling")
    points = {"l2s.methods": {"brightest-of-two": "BrightestOfTwo"}}
    install(monkeypatch, tmp_path, "bright", METHOD_IMPORTS + written, points)
    bright = {"kind": "brightest-of-two", "shift": 5}
    small = {"backbone__steps": 4, "capture__steps": [1, 2], "steering__until_step": 3}
    run = run_of(tmp_path, benchmark__prompts=1, methods={"bright": bright}, **small)
    assert run.paths.samples("bright") not in map(run.paths.samples, run.classifiers)
    assert run.methods["bright"].work(run.config).guided == 2 * 4

    context = SampleContext(
        config=run.config,
        sampler=Sampler.of(backbone, run.config),
        classifier=TrainedClassifier.load,
        judging=lambda: pytest.fail("it asks no judge"),
        seconds=run.seconds,
    )
    items = run.items[:3]
    made = run.methods["bright"].sample(context, items).images.float().mean((1, 2, 3))
    for shift in (0, 5):
        plain = run.methods["plain"].sample(context, [replace(item, seed=item.seed + shift) for item in items])
        assert (made >= plain.images.float().mean((1, 2, 3))).all()
