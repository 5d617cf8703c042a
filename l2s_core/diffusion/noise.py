"""The inversion stage's result: the noise of every scene under its true and its wrong prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2s_core.config import InversionConfig
from l2s_core.data.scenes import PLAIN_FORM, PromptForm, PromptKind, Scene, prompt_of, stack_images
from l2s_core.diffusion.condition import Condition
from l2s_core.diffusion.denoiser import Denoiser
from l2s_core.diffusion.inversion import invert
from l2s_core.diffusion.rectified_flow import RFInversionControl, controlled_invert
from l2s_core.diffusion.sampling import initial_noise
from l2s_core.diffusion.schedule import Schedule
from l2s_core.hashing import stable_seed
from l2s_core.prompts.prompt import Phrases, SeveralPrompt
from l2s_core.relations import Triplet
from l2s_core.storage.store import read_shard, write_tensors


@dataclass(frozen=True, kw_only=True)
class LabelledPrompt:
    """One image under one prompt; `true` is what holds in the image of the pairs that the prompt relates.

    That is so whatever the prompt states of them.
    """

    image_id: str
    split: str
    kind: PromptKind
    prompt: Phrases
    true: tuple[Triplet, ...]


@dataclass(frozen=True, kw_only=True)
class NoiseShard:
    """Rows and their noise (N, C, h, w).

    `control` is the one under which sampling gives the images back; None where plain sampling does.
    """

    rows: list[LabelledPrompt]
    noise: Tensor
    control: RFInversionControl | None = None

    def control_of(self, part: slice, device: str) -> RFInversionControl | None:
        """The control of a part of the rows, on a device."""
        return None if self.control is None else self.control.select(part, device)


def invert_scenes(
    backbone: Denoiser,
    scenes: Sequence[Scene],
    config: InversionConfig,
    *,
    steps: int,
    batch: int,
    form: PromptForm = PLAIN_FORM,
) -> NoiseShard:
    """Invert every scene with its true and its wrong prompt, without guidance, over `steps` steps."""
    schedule = backbone.schedule(steps)
    asked = [(scene, kind, prompt_of(scene, kind, form)) for scene in scenes for kind in PromptKind]
    parts = [_invert_part(backbone, asked[i : i + batch], config, schedule) for i in range(0, len(asked), batch)]
    if not parts:
        return NoiseShard(rows=[], noise=torch.zeros(0, *backbone.latent_shape))
    controls = [part.control for part in parts if part.control is not None]
    return NoiseShard(
        rows=[row for part in parts for row in part.rows],
        noise=torch.cat([part.noise for part in parts]),
        control=replace(controls[0], image=torch.cat([c.image for c in controls])) if controls else None,
    )


def _invert_part(
    backbone: Denoiser, part: Sequence[tuple[Scene, PromptKind, Phrases]], config: InversionConfig, schedule: Schedule
) -> NoiseShard:
    """Invert one batch of (scene, prompt kind, its prompt)."""
    scenes = [scene for scene, _, _ in part]
    prompts = [prompt for _, _, prompt in part]
    condition = backbone.encode_prompts([prompt.text for prompt in prompts])
    latents = backbone.encode_images(stack_images(scenes))
    control = control_of(config, latents, schedule)
    if control is None:
        noise = invert(backbone, latents, condition, schedule, iterations=config.iterations)
    else:
        noise = _controlled_noise(backbone, scenes, latents, condition, schedule, config)
    rows = [
        LabelledPrompt(image_id=scene.image_id, split=scene.split, kind=kind, prompt=prompt, true=scene.true)
        for scene, kind, prompt in part
    ]
    return NoiseShard(
        rows=rows,
        noise=noise.float().cpu(),
        control=None if control is None else control.select(slice(None)),
    )


def control_of(config: InversionConfig, image: Tensor, schedule: Schedule) -> RFInversionControl | None:
    """Return the control towards image latents that `config` asks for; None for an inversion without one."""
    if config.method == "fixed-point":
        return None
    return RFInversionControl(image=image, eta=config.eta, sigmas=schedule.timesteps[config.start : config.stop])


def _controlled_noise(
    backbone: Denoiser,
    scenes: Sequence[Scene],
    latents: Tensor,
    condition: Condition,
    schedule: Schedule,
    config: InversionConfig,
) -> Tensor:
    """Return the noise of RF-inversion, pulled to fresh noise that is an image's own, the same under both prompts."""
    seeds = [stable_seed("noise", scene.image_id) for scene in scenes]
    fresh = initial_noise(seeds, backbone.latent_shape, backbone.device, latents.dtype)
    return controlled_invert(backbone, latents, fresh, condition, schedule, gamma=config.gamma, times=config.times)


def save_noise(path: Path, shard: NoiseShard) -> None:
    """Write a shard atomically; `target` holds the latents that its control pulls to."""
    tensors = {"noise": shard.noise}
    control = None
    if shard.control is not None:
        tensors["target"] = shard.control.image
        control = {"eta": shard.control.eta, "sigmas": shard.control.sigmas}
    write_tensors(path, tensors, {"rows": [_record(row) for row in shard.rows], "control": control})


def load_noise(path: Path) -> NoiseShard:
    """Read a shard; raises UserError when it is missing or damaged."""
    return read_shard(path, _shard)


def _shard(tensors: dict[str, Tensor], stored: dict[str, Any]) -> NoiseShard:
    control = None
    if stored["control"] is not None:
        control = RFInversionControl(
            image=tensors["target"], eta=stored["control"]["eta"], sigmas=tuple(stored["control"]["sigmas"])
        )
    rows = [_row(record) for record in stored["rows"]]
    return NoiseShard(rows=rows, noise=tensors["noise"], control=control)


def _record(row: LabelledPrompt) -> dict[str, Any]:
    """Return what is stored of a row, JSON-able."""
    prompt = row.prompt
    return {
        "image_id": row.image_id,
        "split": row.split,
        "kind": row.kind,
        "prompt": {
            "text": prompt.text,
            "triplets": [asdict(triplet) for triplet in prompt.triplets],
            "objects": prompt.objects,
            "spans": prompt.spans,
        },
        "true": [asdict(triplet) for triplet in row.true],
    }


def _row(record: dict[str, Any]) -> LabelledPrompt:
    stored = record["prompt"]
    prompt = SeveralPrompt(
        text=stored["text"],
        triplets=tuple(Triplet(**triplet) for triplet in stored["triplets"]),
        objects=tuple(stored["objects"]),
        spans=tuple((start, end) for start, end in stored["spans"]),
    )
    return LabelledPrompt(
        image_id=record["image_id"],
        split=record["split"],
        kind=PromptKind(record["kind"]),
        prompt=prompt,
        true=tuple(Triplet(**triplet) for triplet in record["true"]),
    )
