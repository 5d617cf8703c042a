"""mini-seg, the independent judge: a small SegFormer trained on rendered scenes only.

It never sees an image of the diffusion model or of its autoencoder. Training scenes are blurred,
noised and recoloured, and carry plain coloured shapes labelled as background, so that a blob of the
right colour is not enough to be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from l2s_core.evaluation.detectors.load import judge_folder
from l2s_core.miniworld.training.trainer import TrainPlan
from l2s_core.miniworld.training.workshop import Workshop
from l2s_core.miniworld.world.scenes import SIDE, background, label_map, render, sample_layout, to_unit
from l2s_core.miniworld.world.sprites import OBJECTS
from l2s_core.miniworld.world.streams import Stream, scene_rng

BACKGROUND_WEIGHT = 0.3
JUDGE_COUNTS = (0.2, 0.5, 0.3)  # shares of training scenes of one, two and three objects


def build(widths: tuple[int, ...], depth: int) -> SegformerForSemanticSegmentation:
    """Create the untrained segmenter: three stages at 32, 16 and 8 px, 1 + len(OBJECTS) classes."""
    labels = {0: "background", **{i + 1: name for i, name in enumerate(OBJECTS)}}
    stages = len(widths)
    config = SegformerConfig(
        num_encoder_blocks=stages,
        depths=[depth] * stages,
        hidden_sizes=list(widths),
        sr_ratios=[4, 2, 1][:stages],
        patch_sizes=[7, 3, 3][:stages],
        strides=[2, 2, 2][:stages],
        num_attention_heads=[1, 2, 4][:stages],
        mlp_ratios=[2] * stages,
        decoder_hidden_size=64,
        classifier_dropout_prob=0.0,
        drop_path_rate=0.0,
        id2label=labels,
        label2id={name: i for i, name in labels.items()},
        image_size=SIDE,
    )
    return SegformerForSemanticSegmentation(config)


def _with_shapes(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw up to two coloured ellipses or bars on free background."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = image.copy()
    for _ in range(int(rng.integers(0, 3))):
        cx, cy = rng.uniform(6, SIDE - 6, 2)
        rx, ry = rng.uniform(3, 12, 2)
        shape = (
            ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
            if rng.random() < 0.6
            else (abs(x - cx) < rx) & (abs(y - cy) < ry)
        )
        if not labels[shape].any():
            image[shape] = rng.uniform(0, 1, 3)
    return image


@dataclass(frozen=True, kw_only=True)
class JudgeScenes:
    """Training images (B, 3, 64, 64) in [-1, 1] and labels (B, 64, 64), uint8, a function of the step number alone.

    `counts` is as in `sample_layout`.
    """

    seed: int
    batch: int
    counts: tuple[float, ...] = JUDGE_COUNTS

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the batch of a step."""
        return draw(self.seed, step, self.batch, self.counts)


def draw(seed: int, step: int, size: int, counts: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Draw the batch of a step, see `JudgeScenes`."""
    images = []
    labels = []
    for i in range(size):
        rng = scene_rng(seed, step * size + i, Stream.JUDGE)
        layout = sample_layout(rng, counts=counts)
        label = label_map(layout)
        image = render(layout).astype(np.float32) / 255
        if rng.random() < 0.1:
            image = background(layout.corners)
            label = np.zeros_like(label)
        image = _with_shapes(image, label, rng)
        image = gaussian_filter(image, (sigma := rng.uniform(0, 1.0), sigma, 0))
        image = image * rng.uniform(0.85, 1.15, 3).astype(np.float32) + rng.uniform(-0.08, 0.08)
        image = image + rng.normal(0, rng.uniform(0, 0.05), image.shape)
        images.append(np.clip(image * 255, 0, 255).astype(np.uint8))
        labels.append(label)
    return to_unit(np.stack(images)), np.stack(labels)


def train(
    shop: Workshop,
    plan: TrainPlan,
    counts: tuple[float, ...] = JUDGE_COUNTS,
    begin: SegformerForSemanticSegmentation | None = None,
) -> SegformerForSemanticSegmentation:
    """Train mini-seg, from `begin` on if there is one; `counts` are the shares of scenes by number of objects."""
    torch.manual_seed(shop.seed)
    model = begin or build((32, 64, 128), depth=2)
    scenes = shop.ahead(JudgeScenes(seed=shop.seed, batch=plan.batch, counts=counts), plan.steps)
    shop.train(
        "judge", model, lambda m, step: loss(m, *(torch.from_numpy(x).to(shop.device) for x in scenes(step))), plan
    )
    return model


def begun(model: str) -> SegformerForSemanticSegmentation:
    """Return the judge that training goes on from, a shipped name or a folder, in float32."""
    folder = judge_folder(model)
    return SegformerForSemanticSegmentation.from_pretrained(folder).float().requires_grad_(True)


def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy per pixel with a lighter background."""
    logits = model(pixel_values=images).logits.float()
    logits = nn.functional.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    weights = torch.ones(logits.shape[1], device=logits.device)
    weights[0] = BACKGROUND_WEIGHT
    return nn.functional.cross_entropy(logits, labels.long(), weights)
