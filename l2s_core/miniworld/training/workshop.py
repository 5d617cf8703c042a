"""What the trainings of one folder share: checkpoints and sample grids beside each other, one seed, one observer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from l2s_core.backbones.base import Backbone
from l2s_core.diffusion.sampler import Sampler
from l2s_core.hashing import stable_fraction
from l2s_core.miniworld.training.ahead import Ahead, Workers
from l2s_core.miniworld.training.trainer import Observers, TrainPlan, fit
from l2s_core.miniworld.world.sprites import OBJECTS
from l2s_core.prompts.prompt import SeveralPrompt, with_article
from l2s_core.report.grids import save_png, tile

T = TypeVar("T")
MODELS = "models"  # the folder in WORK of the finished models
GRIDS = "grids"  # and that of sample grids
GRID_IMAGES = 32
Observer = Callable[[str, int, dict[str, float]], None]
"""(model, step, values) -> None, called as training goes on."""
Draw = Callable[[nn.Module], np.ndarray]
"""model -> uint8 images (B, H, W, 3) that show what it can do."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """A folder in which models are trained; a training killed at any moment goes on from its last checkpoint.

    `workers` draw scenes and captions ahead of the steps; without them these are drawn when they are needed.
    """

    work: Path
    seed: int
    device: str
    observe: Observer
    workers: Workers | None = None

    def ahead(self, make: Callable[[int], T], steps: int) -> Callable[[int], T]:
        """Return a function of the step that gives what `make` does; workers, if there are some, make it beforehand."""
        return Ahead(make, steps, self.workers)

    def train(
        self,
        name: str,
        model: nn.Module,
        loss: Callable[[nn.Module, int], Tensor],
        plan: TrainPlan,
        draw: Draw | None = None,
    ) -> None:
        """Train `model` in place; `draw` makes the grid that is kept with each checkpoint."""

        def on_checkpoint(step: int) -> None:
            if draw is not None:
                save_png(tile(draw(model)), self.work / GRIDS / f"{name}-{step:06d}.png")

        fit(
            model,
            loss,
            plan,
            checkpoint=self.work / f"{name}.safetensors",
            device=self.device,
            seed=self.seed,
            observers=Observers(log=partial(self.observe, name), on_checkpoint=on_checkpoint),
        )


@torch.no_grad()
def sample_grid(backbone: Backbone, *, steps: int, guidance: float) -> np.ndarray:
    """Sample two-object prompts, the same at every checkpoint."""
    prompts = []
    for i in range(GRID_IMAGES):
        a, b = sorted(OBJECTS, key=lambda name: stable_fraction("grid", i, name))[:2]
        text = f"a photo of {with_article(a)} and {with_article(b)}"
        prompts.append(SeveralPrompt(text=text, triplets=(), objects=(a, b), spans=()))
    sampler = Sampler(backbone=backbone, steps=steps, guidance=guidance, batch=GRID_IMAGES)
    return sampler(prompts, range(GRID_IMAGES)).images.numpy()
