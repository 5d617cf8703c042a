"""The record that every source yields, and its true and wrong prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from l2s_core.hashing import stable_fraction
from l2s_core.prompts.prompt import Prompt, prompt_for
from l2s_core.relations import RELATIONS, Triplet

SPLITS = ("train", "val", "test")


class PromptKind(StrEnum):
    """Whether a prompt states the relation that is true in the image, or a wrong one."""

    POS = "pos"
    NEG = "neg"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image (uint8 RGB) in which the triplet is true."""

    image_id: str
    split: str
    image: np.ndarray
    triplet: Triplet


def scene_prompt(image_id: str, triplet: Triplet, kind: PromptKind) -> Prompt:
    """Return a scene's prompt: the true one, or one with another spatial relation drawn from the image id.

    The wrong prompt of an attribute is spatial as well: "a white to the left of a dog".
    """
    if kind is PromptKind.POS:
        return prompt_for(triplet)
    wrong = [name for name in RELATIONS if name != triplet.relation]
    chosen = wrong[int(stable_fraction("wrong", image_id) * len(wrong))]
    return prompt_for(Triplet(subject=triplet.subject, relation=chosen, object=triplet.object))


def stack_images(scenes: Sequence[Scene]) -> np.ndarray:
    """Return the images as one uint8 array (B, H, W, 3)."""
    return np.stack([scene.image for scene in scenes])
