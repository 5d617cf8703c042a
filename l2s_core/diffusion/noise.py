"""The inversion stage's result: the noise of every scene under its true and its wrong prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from l2s_core.config import InversionConfig
from l2s_core.data.scenes import PROMPT_KINDS, Scene, scene_prompt, stack_images
from l2s_core.diffusion.denoiser import Denoiser
from l2s_core.diffusion.inversion import invert, psnr
from l2s_core.diffusion.rectified_flow import Control, Pull, control_by, controlled_invert
from l2s_core.diffusion.sampling import initial_noise, sample
from l2s_core.diffusion.schedule import Schedule
from l2s_core.hashing import stable_seed
from l2s_core.prompts.prompt import Prompt, Triplet
from l2s_core.storage.store import read_tensors, write_tensors


@dataclass(frozen=True, kw_only=True)
class LabelledPrompt:
    """One image under one prompt; `true` is the relation in the image, whatever the prompt states."""

    image_id: str
    split: str
    kind: str
    prompt: Prompt
    true: str


@dataclass(frozen=True, kw_only=True)
class NoiseShard:
    """Rows, their noise (N, C, h, w), the PSNR in dB (N,) of what it gives back, and the way back.

    `target` holds the images' latents where the way back is pulled towards them, with `control` saying how.
    """

    rows: list[LabelledPrompt]
    noise: Tensor
    psnr: Tensor
    target: Tensor | None = None
    control: Pull | None = None

    def kept(self, min_psnr: float) -> NoiseShard:
        """Drop every image of which any reconstruction has a PSNR below `min_psnr`."""
        bad = {row.image_id for row, value in zip(self.rows, self.psnr.tolist(), strict=True) if value < min_psnr}
        keep = [i for i, row in enumerate(self.rows) if row.image_id not in bad]
        target = None if self.target is None else self.target[keep]
        return replace(
            self, rows=[self.rows[i] for i in keep], noise=self.noise[keep], psnr=self.psnr[keep], target=target
        )

    def way_back(self, backbone: Denoiser, part: slice, schedule: Schedule) -> Denoiser | Control:
        """Return what predicts the way from the noise of a part of the rows to its images."""
        if self.control is None or self.target is None:
            return backbone
        return control_by(self.control, backbone, self.target[part].to(backbone.device), schedule)


def invert_scenes(
    backbone: Denoiser, scenes: Sequence[Scene], config: InversionConfig, *, steps: int, batch: int
) -> NoiseShard:
    """Invert every scene with its true and its wrong prompt and measure what the noise gives back.

    Without guidance, over `steps` steps. The PSNR is against the scene itself, so it includes what the
    autoencoder loses.
    """
    schedule, pull = backbone.schedule(steps), pull_of(config, steps)
    pairs = [(scene, kind) for scene in scenes for kind in PROMPT_KINDS]
    rows, noise, quality, targets = [], [], [], []
    for first in range(0, len(pairs), batch):
        part = pairs[first : first + batch]
        prompts = [scene_prompt(scene.image_id, scene.triplet, kind) for scene, kind in part]
        images = stack_images([scene for scene, _ in part])
        condition = backbone.encode_prompts([prompt.text for prompt in prompts])
        latents, way_back = backbone.encode_images(images), backbone
        if pull is None:
            start = invert(backbone, latents, condition, schedule, iterations=config.iterations)
        else:
            fresh = initial_noise(
                [_noise_seed(scene.image_id) for scene, _ in part], backbone.latent_shape, backbone.device
            )
            start = controlled_invert(backbone, latents, fresh, condition, schedule, gamma=config.gamma)
            way_back = control_by(pull, backbone, latents, schedule)
            targets.append(latents.cpu())
        returned = sample(way_back, start, condition, schedule)
        rows += [
            LabelledPrompt(image_id=s.image_id, split=s.split, kind=kind, prompt=p, true=s.triplet.relation)
            for (s, kind), p in zip(part, prompts, strict=True)
        ]
        noise.append(start.float().cpu())
        quality.append(psnr(torch.from_numpy(backbone.decode(returned)), torch.from_numpy(images)))
    if not rows:
        return NoiseShard(rows=[], noise=torch.zeros(0, *backbone.latent_shape), psnr=torch.zeros(0))
    target = torch.cat(targets) if targets else None
    return NoiseShard(rows=rows, noise=torch.cat(noise), psnr=torch.cat(quality), target=target, control=pull)


def pull_of(config: InversionConfig, steps: int) -> Pull | None:
    """Return how the way back is pulled to the image; None for an inversion that needs no pull."""
    if config.method == "fixed-point":
        return None
    return Pull(eta=config.eta, start=config.start, stop=steps if config.stop is None else config.stop)


def _noise_seed(image_id: str) -> int:
    """Return the seed of an image's fresh noise: the same under both prompts."""
    return stable_seed("noise", image_id)


def save_noise(path: Path, shard: NoiseShard) -> None:
    """Write a shard atomically."""
    tensors = {"noise": shard.noise, "psnr": shard.psnr}
    if shard.target is not None:
        tensors["target"] = shard.target
    control = None if shard.control is None else asdict(shard.control)
    write_tensors(path, tensors, {"rows": [asdict(row) for row in shard.rows], "control": control})


def load_noise(path: Path) -> NoiseShard:
    """Read a shard; raises UserError when it is missing or damaged."""
    tensors, stored = read_tensors(path)
    control = None if stored["control"] is None else Pull(**stored["control"])
    return NoiseShard(rows=[_row(record) for record in stored["rows"]], control=control, **tensors)


def _row(record: dict) -> LabelledPrompt:
    stored = record["prompt"]
    prompt = Prompt(
        text=stored["text"],
        triplet=Triplet(**stored["triplet"]),
        subject_span=tuple(stored["subject_span"]),
        object_span=tuple(stored["object_span"]),
    )
    return LabelledPrompt(**{**record, "prompt": prompt})
