"""What judges of an open vocabulary share, from loading to batches of images that are asked for the same names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from l2s_core.backbones.complete import load_complete, require_vocabulary
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.detectors.pixels import read_pixel_settings

BATCH = 4


class NamedJudge(Judge):
    """A model of transformers that looks for the names it is given; subclasses say which model, and how it is asked.

    Loads safetensors only, runs no code of the model's folder and asks no network. Raises UserError when weights or
    the vocabulary are missing from the folder: the library would fill in the ones at random, and leave the other
    empty.
    """

    OPEN_VOCABULARY: ClassVar[bool] = True

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        from transformers import AutoTokenizer

        require_vocabulary(folder)
        self.model = load_complete(self.KIND, folder, device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        self.pixels = read_pixel_settings(folder)
        self.device = device

    def require(self, names: Sequence[str]) -> None:
        """Raise UserError for a name without a letter or digit."""
        for name in names:
            if not any(character.isalnum() for character in name):
                raise UserError(f"the judge cannot look for {name!r}; needed: a name with letters or digits")

    @torch.no_grad()
    def detect(self, images: np.ndarray, names: Sequence[Sequence[str]] | None = None) -> list[list[Detection]]:
        """Return the detections of every uint8 image (B, H, W, 3) for its own names, best score first.

        Images are batched with those asked for the same names in the same order. A name given twice is looked for
        once; an image without names has no detections. Raises UserError without `names`, or for one that the
        judge cannot look for.
        """
        if names is None:
            raise UserError(
                f"{self.KIND} finds only what it is asked for, and no names were given; "
                "name the objects of each image, or choose a judge of a closed set"
            )
        groups: dict[tuple[str, ...], list[int]] = {}
        for place, (_, asked) in enumerate(zip(images, names, strict=True)):
            groups.setdefault(tuple(dict.fromkeys(asked)), []).append(place)
        found: list[list[Detection]] = [[] for _ in images]
        for asked, places in groups.items():
            self.require(asked)
            for first in range(0, len(places) if asked else 0, BATCH):
                part = places[first : first + BATCH]
                for place, detections in zip(part, self._find(images[part], asked), strict=True):
                    found[place] = detections
        return found

    def _find(self, images: np.ndarray, names: tuple[str, ...]) -> list[list[Detection]]:
        """Return the detections of a batch of images that are all asked for the same names."""
        raise NotImplementedError

    def _encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the token ids and the mask (N, K) of texts, filled up to the model's K.

        Raises UserError for a text that is longer.
        """
        length = self.model.config.text_config.max_position_embeddings
        for text in texts:
            needed = len(self.tokenizer(text)["input_ids"])
            if needed > length:
                raise UserError(f"{text!r} has {needed} tokens, and {self.KIND} reads {length}; shorten the name")
        tokens = self.tokenizer(list(texts), padding="max_length", max_length=length, return_tensors="pt")
        return {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}
