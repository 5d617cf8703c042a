"""The record every source yields, and the true and wrong prompt of a scene."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from l2s_core.prompts import Prompt, Triplet, prompt_for
from l2s_core.relations import RELATIONS

SPLITS = ("train", "val", "test")
PROMPT_KINDS = ("pos", "neg")  # the stated relation is the true one, or a wrong one


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image (uint8 RGB) in which the triplet is true."""

    image_id: str
    split: str
    image: np.ndarray
    triplet: Triplet


def stable_fraction(*parts: object) -> float:
    """Map values to [0, 1) by a hash that is the same in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def scene_prompt(scene: Scene, kind: str) -> Prompt:
    """Return the scene's prompt: true ("pos"), or with another relation drawn from the image id ("neg")."""
    if kind == "pos":
        return prompt_for(scene.triplet)
    wrong = [name for name in RELATIONS if name != scene.triplet.relation]
    chosen = wrong[int(stable_fraction("wrong", scene.image_id) * len(wrong))]
    return prompt_for(Triplet(subject=scene.triplet.subject, relation=chosen, object=scene.triplet.object))
