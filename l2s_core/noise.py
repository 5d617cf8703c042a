"""The inversion stage's result: the noise of every scene under its true and its wrong prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from l2s_core.backbones.base import Backbone
from l2s_core.data.scenes import PROMPT_KINDS, Scene, scene_prompt, stack_images
from l2s_core.inversion import invert, psnr
from l2s_core.prompts import Prompt, Triplet
from l2s_core.sampling import sample
from l2s_core.store import read_tensors, write_tensors


@dataclass(frozen=True, kw_only=True)
class InvertedPrompt:
    """One scene under one prompt; `true` is the relation in the image, whatever the prompt states."""

    image_id: str
    split: str
    kind: str
    prompt: Prompt
    true: str


@dataclass(frozen=True, kw_only=True)
class NoiseShard:
    """Rows, their noise (N, C, h, w) and the PSNR in dB (N,) of the images it gives back."""

    rows: list[InvertedPrompt]
    noise: Tensor
    psnr: Tensor

    def kept(self, min_psnr: float) -> NoiseShard:
        """Drop every image of which any reconstruction has a PSNR below `min_psnr`."""
        bad = {row.image_id for row, value in zip(self.rows, self.psnr.tolist(), strict=True) if value < min_psnr}
        keep = [i for i, row in enumerate(self.rows) if row.image_id not in bad]
        return NoiseShard(rows=[self.rows[i] for i in keep], noise=self.noise[keep], psnr=self.psnr[keep])


def invert_scenes(
    backbone: Backbone, scenes: Sequence[Scene], *, steps: int, iterations: int, batch: int
) -> NoiseShard:
    """Invert every scene with its true and its wrong prompt and measure what the noise gives back.

    Without guidance, over `steps` steps. The PSNR is against the scene itself, so it includes what the
    autoencoder loses.
    """
    schedule = backbone.schedule(steps)
    pairs = [(scene, kind) for scene in scenes for kind in PROMPT_KINDS]
    rows, noise, quality = [], [], []
    for first in range(0, len(pairs), batch):
        part = pairs[first : first + batch]
        prompts = [scene_prompt(scene.image_id, scene.triplet, kind) for scene, kind in part]
        images = stack_images([scene for scene, _ in part])
        condition = backbone.encode_prompts([prompt.text for prompt in prompts])
        start = invert(backbone, backbone.encode_images(images), condition, schedule, iterations=iterations)
        returned = backbone.decode(sample(backbone, start, condition, schedule))
        rows += [
            InvertedPrompt(image_id=s.image_id, split=s.split, kind=kind, prompt=p, true=s.triplet.relation)
            for (s, kind), p in zip(part, prompts, strict=True)
        ]
        noise.append(start.float().cpu())
        quality.append(psnr(torch.from_numpy(returned), torch.from_numpy(images)))
    return NoiseShard(rows=rows, noise=torch.cat(noise), psnr=torch.cat(quality))


def save_noise(path: Path, shard: NoiseShard) -> None:
    """Write a shard atomically."""
    write_tensors(path, {"noise": shard.noise, "psnr": shard.psnr}, [asdict(row) for row in shard.rows])


def load_noise(path: Path) -> NoiseShard:
    """Read a shard; raises UserError when it is missing or damaged."""
    tensors, records = read_tensors(path)
    return NoiseShard(rows=[_row(record) for record in records], noise=tensors["noise"], psnr=tensors["psnr"])


def _row(record: dict) -> InvertedPrompt:
    stored = record["prompt"]
    prompt = Prompt(
        text=stored["text"], triplet=Triplet(**stored["triplet"]),
        subject_span=tuple(stored["subject_span"]), object_span=tuple(stored["object_span"]),
    )  # fmt: skip
    return InvertedPrompt(**{**record, "prompt": prompt})
