"""The record that every source yields, and its true and wrong prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from l2s_core.config import DataConfig
from l2s_core.hashing import stable_fraction
from l2s_core.prompts.prompt import Prompt, prompt_for
from l2s_core.relations import RELATIONS, Triplet, Wording

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


@dataclass(frozen=True, kw_only=True)
class PromptForm:
    """How prompts of scenes are written, and which labels wrong ones may state."""

    written: Wording = Wording.PLAIN
    wrong: tuple[str, ...] = RELATIONS

    @classmethod
    def of(cls, config: DataConfig) -> PromptForm:
        """The form that a run's data asks for."""
        return cls(written=config.wording, wrong=config.labels if config.wrong == "any" else RELATIONS)


PLAIN_FORM = PromptForm()


def scene_prompt(image_id: str, triplet: Triplet, kind: PromptKind, form: PromptForm = PLAIN_FORM) -> Prompt:
    """Return a scene's prompt: the true one, or one with another label of `form.wrong` drawn from the image id.

    The wrong prompt of an attribute is spatial: "a white to the left of a dog". That of a spatial relation may be
    "a dog is a cat", where "is" is among the labels.
    """
    if kind is PromptKind.POS:
        return prompt_for(triplet, written=form.written)
    wrong = [name for name in form.wrong if name != triplet.relation]
    chosen = wrong[int(stable_fraction("wrong", image_id) * len(wrong))]
    stated = Triplet(subject=triplet.subject, relation=chosen, object=triplet.object)
    return prompt_for(stated, written=form.written, of_pair=True)


def stack_images(scenes: Sequence[Scene]) -> np.ndarray:
    """Return the images as one uint8 array (B, H, W, 3)."""
    return np.stack([scene.image for scene in scenes])
