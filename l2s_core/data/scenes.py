"""The record that every source yields, and its true and wrong prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np

from l2s_core.config import DataConfig
from l2s_core.hashing import stable_fraction
from l2s_core.prompts.chains import chained_prompt
from l2s_core.prompts.pairs import relations_by_pair
from l2s_core.prompts.prompt import Phrases, Prompt, prompt_for
from l2s_core.relations import DIAGONALS, PLANAR, Triplet, Wording

SPLITS = ("train", "val", "test")


class PromptKind(StrEnum):
    """Whether a prompt states the relation that is true in the image, or a wrong one."""

    POS = "pos"
    NEG = "neg"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image (uint8 RGB) in which the triplet is true.

    `also` is what else is true of the pairs that prompts of the scene relate: a second relation of the first pair,
    which then stands diagonally, and all relations of further pairs.
    """

    image_id: str
    split: str
    image: np.ndarray
    triplet: Triplet
    also: tuple[Triplet, ...] = ()

    @property
    def true(self) -> tuple[Triplet, ...]:
        """All that is true of the pairs that prompts relate."""
        return (self.triplet, *self.also)


@dataclass(frozen=True, kw_only=True)
class PromptForm:
    """How prompts of scenes are written, which labels wrong ones may state, and whether they state diagonals."""

    written: Wording = Wording.PLAIN
    wrong: tuple[str, ...] = PLANAR
    diagonals: bool = False

    @classmethod
    def of(cls, config: DataConfig) -> PromptForm:
        """The form that a run's data asks for."""
        return cls(written=config.wording, wrong=config.wrongly_stated, diagonals=config.states_diagonals)


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


def prompt_of(scene: Scene, kind: PromptKind, form: PromptForm = PLAIN_FORM) -> Phrases:
    """Return a scene's prompt: what it states of every pair is true, or of every pair wrong.

    One of a single true relation is `scene_prompt`'s. All draws are hashes of the image id. Diagonals are stated of
    scenes with one pair alone, as in the benchmark: of two true relations every other true prompt states both, else one
    of them; with `form.diagonals`, every other wrong prompt states a diagonal that is not there, of which one relation
    may be true.
    """
    pairs = relations_by_pair(scene.true)
    alone = len(pairs) == 1
    if not scene.also and not (form.diagonals and kind is PromptKind.NEG):
        return scene_prompt(scene.image_id, scene.triplet, kind, form)
    stated = []
    for number, ((subject, object_), true) in enumerate(pairs.items()):
        draw = partial(stable_fraction, "stated", scene.image_id, number)
        if kind is PromptKind.POS:
            relations = true if alone and draw("diagonal") < 0.5 else _one_of([(name,) for name in true], draw)
        elif alone and form.diagonals and draw("diagonal") < 0.5:
            relations = _one_of([corner for corner in DIAGONALS if not set(corner) <= set(true)], draw)
        else:
            relations = _one_of([(name,) for name in form.wrong if name not in true], draw)
        stated += [Triplet(subject=subject, relation=relation, object=object_) for relation in relations]
    return chained_prompt(stated, article=form.written.article)


def _one_of(choices: Sequence[tuple[str, ...]], draw: Callable[[str], float]) -> tuple[str, ...]:
    return choices[int(draw("words") * len(choices))]


def images_of(scenes: Iterable[Scene]) -> dict[str, np.ndarray]:
    """Return the images of scenes, uint8 (H, W, 3), by id."""
    return {scene.image_id: scene.image for scene in scenes}


def stack_images(scenes: Sequence[Scene]) -> np.ndarray:
    """Return the images as one uint8 array (B, H, W, 3)."""
    return np.stack([scene.image for scene in scenes])
