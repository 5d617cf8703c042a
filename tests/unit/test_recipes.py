"""The recipes in the core's README, followed as they stand there."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from l2s_core.config import SteeringConfig, load_run_config
from l2s_core.dataset.collect import map_source
from l2s_core.diffusion.sampler import Batch, Sampler
from l2s_core.diffusion.sampling import initial_noise
from l2s_core.prompts.prompt import Triplet, prompt_for
from l2s_core.steering.steering import Steering
from l2s_core.steering.targets import Targets

README = Path(__file__).parents[2] / "l2s_core" / "README.md"
SETTINGS = {"backbone.steps": 4, "capture.steps": [1, 2], "steering.until_step": 3, "steering.updates": 2}
PROMPTS = [
    prompt_for(Triplet(subject="dog", relation=relation, object="cat"), prefix="a photo of ")
    for relation in ("left of", "above")
]


def blocks(heading: str) -> list[str]:
    """Return the Python blocks of a section."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", README.read_text(encoding="utf-8"), re.M | re.S)
    return [textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```", section, re.M | re.S)]


def test_an_objective_is_added_by_its_recipe(backbone) -> None:
    written, used = blocks("Add an objective")
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
