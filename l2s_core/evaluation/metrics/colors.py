"""The colour of a find by GenEval's rule: CLIP's zero-shot answer on its box (Ghosh et al. 2023, arXiv 2310.11513)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Box
from l2s_core.evaluation.metrics.clipscore import BATCH, ClipScorer
from l2s_core.evaluation.protocols.geneval_rules import COLORS
from l2s_core.evaluation.protocols.protocol import NamedBox

TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")


class ColorReader:
    """Tells which of GenEval's ten colours an object has.

    A colour is the normalised mean of the normalised embeddings of three texts that name it and the object's class;
    the answer is the colour that is closest to the image's embedding, by cosine, the first of equal ones (zero-shot
    classification, Radford et al. 2021, arXiv 2103.00020, section 3.1). GenEval's model is CLIP ViT-L/14 of OpenAI.
    """

    def __init__(self, clip: ClipScorer) -> None:
        self.clip = clip
        self._colors_CD: dict[str, Tensor] = {}

    def read(self, crops: Sequence[np.ndarray], names: Sequence[str], *, batch: int = BATCH) -> list[str]:
        """Return the colour of the object in each uint8 image (H, W, 3), of the class of the same place in `names`."""
        colors = []
        for first in range(0, len(crops), batch):
            images_BD = self.clip.embed_images(crops[first : first + batch])
            colors_BCD = torch.stack([self._colors(name) for name in names[first : first + batch]])
            best_B = torch.einsum("bd,bcd->bc", images_BD, colors_BCD).argmax(1)
            colors += [COLORS[index] for index in best_B.tolist()]
        return colors

    def _colors(self, name: str) -> Tensor:
        """Return the embedding of every colour of a class, (C, D), of length 1."""
        if name not in self._colors_CD:
            texts = [template.format(color=color, name=name) for color in COLORS for template in TEMPLATES]
            embedded_CTD = self.clip.embed_texts(texts).reshape(len(COLORS), len(TEMPLATES), -1)
            self._colors_CD[name] = normalize(embedded_CTD.mean(1), dim=-1)
        return self._colors_CD[name]


def seen_colors(
    reader: ColorReader | None,
    prompts: Sequence[str],
    images: np.ndarray,
    asked: Sequence[Sequence[NamedBox]],
) -> list[dict[NamedBox, str]]:
    """Return, by image, the colours of the boxes whose colour its verdict depends on, those `asked` for.

    `images` are uint8 (N, H, W, 3), `prompts` their texts. What is shown to the reader is the box alone, cut out of
    the image. GenEval also paints the box grey (#999) outside the detector's mask; detections here carry no mask, so
    a bright background may speak for a thin object. Raises UserError for a prompt that asks for a colour without a
    reader.
    """
    if reader is None:
        for prompt, boxes in zip(prompts, asked, strict=True):
            if boxes:
                raise UserError(
                    f"the prompt {prompt!r} asks for a colour, and nothing here tells colours; "
                    "set benchmark.clip to a CLIPModel"
                )
        return [{} for _ in prompts]
    crops = [_cut(image, box) for image, boxes in zip(images, asked, strict=True) for _, box in boxes]
    answers = iter(reader.read(crops, [name for name, _ in chain.from_iterable(asked)]))
    return [{box: next(answers) for box in boxes} for boxes in asked]


def _cut(image: np.ndarray, box: Box) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.ascontiguousarray(image[y0:y1, x0:x1])
