"""One round of reflow (Liu et al. 2023, section 2.2; Liu et al. 2024, InstaFlow) for the small flow model.

The trained model draws samples with guidance; the second model learns the straight lines from the noise of
each to the sample it became. Its paths are nearly straight, so that few steps are enough, and guidance is
part of it: what FLUX.1-schnell gets from distillation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from l2s_core.backbones.flux import FluxBackbone
from l2s_core.diffusion.sampling import initial_noise, sample
from l2s_core.errors import UserError
from l2s_core.miniworld.training.flow import Encoders, stratified, velocity_loss
from l2s_core.miniworld.world.captions import CaptionStyle, web_caption
from l2s_core.miniworld.world.scenes import sample_layout
from l2s_core.miniworld.world.streams import Stream, scene_rng
from l2s_core.storage.store import read_tensors, write_tensors

SHARD = 512  # pairs of one file
NOISE_SEED = 10_000_000  # noise of the pairs: seeds that no suite uses


@dataclass(frozen=True, kw_only=True)
class PairCaptions:
    """Captions of pairs: the crawl's, of scenes that are never drawn.

    `counts` is as in `sample_layout`, `style` as in `web_caption`.
    """

    seed: int
    counts: Sequence[float]
    style: CaptionStyle

    def __call__(self, index: int) -> str:
        """Return the caption of pair `index`."""
        rng = scene_rng(self.seed, index, Stream.REFLOW_CAPTIONS)
        return web_caption(sample_layout(rng, counts=self.counts), rng, self.style)


def pair_noise(indices: list[int], shape: tuple[int, ...]) -> Tensor:
    """Return the noise (B, C, h, w) of pairs."""
    return initial_noise([NOISE_SEED + i for i in indices], shape)


@torch.no_grad()
def draw_pairs(
    backbone: FluxBackbone,
    captions: PairCaptions,
    count: int,
    folder: Path,
    *,
    steps: int,
    guidance: float,
    progress: Callable[[int], None],
) -> Tensor:
    """Return the latents (N, C, h, w), float16, that the noise of each pair becomes.

    They are kept in `folder` shard by shard.
    """
    schedule = backbone.schedule(steps)
    shards = []
    how = {"steps": steps, "guidance": guidance}
    for first in range(0, count, SHARD):
        indices = list(range(first, min(first + SHARD, count)))
        path = folder / f"{first:07d}.safetensors"
        latents = _finished(path, len(indices), how)
        if latents is None:
            parts = []
            for part in torch.tensor(indices).split(64):
                condition = backbone.encode_prompts([captions(i) for i in part.tolist()], guidance=guidance)
                noise = pair_noise(part.tolist(), backbone.latent_shape).to(backbone.device)
                parts.append(sample(backbone, noise, condition, schedule).half().cpu())
            latents = torch.cat(parts)
            write_tensors(path, {"latents": latents}, how)
        shards.append(latents)
        progress(indices[-1] + 1)
    return torch.cat(shards)


def _finished(path: Path, count: int, how: dict[str, float]) -> Tensor | None:
    """Return the pairs of a shard that is whole and was drawn this way."""
    try:
        tensors, drawn = read_tensors(path)
    except UserError:
        return None
    return tensors["latents"] if len(tensors["latents"]) == count and drawn == how else None


class ReflowLoss:
    """Flow matching on fixed pairs, whose images are `latents` (N, C, h, w).

    Sigma is uniform. Batches depend on the step number alone.
    """

    def __init__(self, latents: Tensor, captions: PairCaptions, encoders: Encoders, *, seed: int, batch: int) -> None:
        self.latents = latents
        self.captions = captions
        self.encoders = encoders
        self.seed = seed
        self.batch = batch

    def __call__(self, model: nn.Module, step: int) -> Tensor:
        indices = scene_rng(self.seed, step, Stream.REFLOW_BATCHES).integers(0, len(self.latents), self.batch).tolist()
        device = self.encoders.device
        x0 = self.latents[indices].float().to(device)
        noise = pair_noise(indices, tuple(x0.shape[1:])).to(device)
        text = self.encoders([self.captions(i) for i in indices])
        return velocity_loss(model, x0, noise, stratified(self.batch).to(device), text)
