"""The record every source yields, its true and wrong prompt, and shards of scenes on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from l2s_core.hashing import stable_fraction
from l2s_core.prompts.prompt import Prompt, Triplet, prompt_for
from l2s_core.relations import RELATIONS
from l2s_core.storage.store import read_description, read_tensors, write_tensors

SPLITS = ("train", "val", "test")
PROMPT_KINDS = ("pos", "neg")  # the stated relation is the true one, or a wrong one


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image (uint8 RGB) in which the triplet is true."""

    image_id: str
    split: str
    image: np.ndarray
    triplet: Triplet


def scene_prompt(image_id: str, triplet: Triplet, kind: str) -> Prompt:
    """Return a scene's prompt: true ("pos"), or with another spatial relation drawn from the image id ("neg").

    The wrong prompt of an attribute is spatial as well: "a white to the left of a dog".
    """
    if kind == "pos":
        return prompt_for(triplet)
    wrong = [name for name in RELATIONS if name != triplet.relation]
    chosen = wrong[int(stable_fraction("wrong", image_id) * len(wrong))]
    return prompt_for(Triplet(subject=triplet.subject, relation=chosen, object=triplet.object))


def save_scenes(
    path: Path, scenes: Sequence[Scene], side: int, skipped: Mapping[str, int] | None = None, named: Sequence[str] = ()
) -> None:
    """Write a shard of scenes of one image size, and what was skipped on the way."""
    images = torch.from_numpy(
        np.stack([scene.image for scene in scenes]) if scenes else np.empty((0, side, side, 3), np.uint8)
    )
    records = [{"image_id": s.image_id, "split": s.split, "triplet": asdict(s.triplet)} for s in scenes]
    write_tensors(path, {"images": images}, {"scenes": records, "skipped": dict(skipped or {}), "named": list(named)})


def load_scenes(path: Path) -> list[Scene]:
    """Read a shard of scenes; raises UserError when it is missing or damaged."""
    tensors, stored = read_tensors(path)
    return [
        Scene(image_id=r["image_id"], split=r["split"], image=image, triplet=Triplet(**r["triplet"]))
        for r, image in zip(stored["scenes"], tensors["images"].numpy(), strict=True)
    ]


def load_triplets(path: Path) -> list[Triplet]:
    """Read what is true in a shard's scenes, and none of their images."""
    return [Triplet(**record["triplet"]) for record in read_description(path)["scenes"]]


def load_skipped(path: Path) -> tuple[dict[str, int], list[str]]:
    """Read what a shard of scenes had to skip: counts by reason, and names."""
    stored = read_description(path)
    return stored["skipped"], stored["named"]


def stack_images(scenes: Sequence[Scene]) -> np.ndarray:
    """Return the images as one uint8 array (B, H, W, 3)."""
    return np.stack([scene.image for scene in scenes])
