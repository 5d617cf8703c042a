"""What the core costs, as ratios within one run. Usage: ``python -m l2s_core.planning.speed``."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from l2s_core.attention.probabilities import phrase_attention, phrase_attention_reference
from l2s_core.attention.reader import AttentionReader
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.diffusion.condition import Condition
from l2s_core.diffusion.denoiser import Denoiser
from l2s_core.diffusion.inversion import invert
from l2s_core.diffusion.sampling import initial_noise, sample
from l2s_core.diffusion.schedule import Schedule
from l2s_core.miniworld.world.scenes import render, sample_layout
from l2s_core.miniworld.world.streams import Stream, scene_rng
from l2s_core.prompts.prompt import prompt_for
from l2s_core.relations import Triplet

BATCH = 32
STEPS = 20
REPEATS = 5
PROMPT = prompt_for(Triplet(subject="dog", relation="left of", object="cat"))


def seconds(function: Callable[[], object]) -> float:
    """Best of REPEATS, after one call to warm up."""
    function()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def plain_inversion(
    backbone: Denoiser, latents: Tensor, condition: Condition, schedule: Schedule, iterations: int
) -> Tensor:
    """Fixed-point inversion without warm start or acceleration: what `invert` is compared with."""
    for step in reversed(range(len(schedule))):
        estimate = latents
        for _ in range(iterations):
            estimate = schedule.undo_step(
                latents, backbone.predict(estimate, schedule.timesteps[step], condition), step
            )
        latents = estimate
    return latents


@torch.no_grad()
def inversion_table(backbone: Denoiser) -> list[tuple[str, int, float]]:
    """Return (method, denoiser evaluations a step, RMS error of the latents given back)."""
    scenes = [sample_layout(scene_rng(1, i, Stream.SPEED), objects=["dog", "cat"]) for i in range(BATCH)]
    latents = backbone.encode_images(np.stack([render(s) for s in scenes]))
    condition = backbone.encode_prompts([PROMPT.text] * BATCH)
    schedule = backbone.schedule(STEPS)

    def error(noise: Tensor) -> float:
        return float((sample(backbone, noise, condition, schedule) - latents).square().mean().sqrt())

    rows = [("plain", n, error(plain_inversion(backbone, latents, condition, schedule, n))) for n in (1, 2, 5)]
    return rows + [("ours", n, error(invert(backbone, latents, condition, schedule, iterations=n))) for n in (1, 2, 3)]


def main() -> None:
    """Print the ratios."""
    backbone = UNetBackbone.from_pretrained("mini-sd")
    condition = backbone.encode_prompts([PROMPT.text] * BATCH)
    weights = backbone.phrase_weights([PROMPT] * BATCH)
    latents = initial_noise(list(range(BATCH)), backbone.latent_shape)
    reader = AttentionReader(backbone)

    def gradient() -> Tensor:
        z = latents.clone().requires_grad_(True)
        return torch.autograd.grad(reader.read(z, 500, condition, weights).square().sum(), z)[0]

    with torch.no_grad():
        forward = seconds(lambda: backbone.predict(latents, 500, condition))
        alone = seconds(lambda: backbone.predict(latents[:1], 500, condition.select(torch.arange(1))))
        whole = seconds(lambda: reader.read_and_predict(latents, 500, condition, weights))
        stopped = seconds(lambda: reader.read(latents, 500, condition, weights))
        query = torch.randn(BATCH, 8, 1024, 40)
        key = torch.randn(BATCH, 8, 77, 40)
        columns = torch.rand(BATCH, 2, 77)
        fused = seconds(lambda: phrase_attention(query, key, columns))
        reference = seconds(lambda: phrase_attention_reference(query, key, columns))
    rows = [
        (f"one image in a batch of {BATCH} / alone", forward / BATCH / alone),
        ("forward with capture / forward", whole / forward),
        ("forward with capture, stopped early / forward", stopped / forward),
        ("steering gradient / forward", seconds(gradient) / forward),
        ("phrase attention, fused / by definition (1024 pixels, 77 tokens)", fused / reference),
    ]
    for label, ratio in rows:
        print(f"{label:66s} {ratio:6.2f}")
    print("\ninversion  evaluations a step  RMS error of the latents given back")
    for method, evaluations, error in inversion_table(backbone):
        print(f"{method:9s}  {evaluations:18d}  {error:.4f}")


if __name__ == "__main__":
    main()
