"""A judge of an open vocabulary: Grounding DINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.boxes import best_named, pixel_boxes
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.named import NamedJudge
from l2s_core.evaluation.detectors.pixels import model_pixels
from l2s_core.prompts.grammar import Span
from l2s_core.prompts.tokens import tokens_of_span

MIN_SCORE = 0.05  # weaker boxes are not even listed; 0.25 is the library's threshold
ENDS = ".?"  # what ends a phrase in the model's text


class GroundingDinoJudge(NamedJudge):
    """Boxes from Grounding DINO (Liu et al. 2023, arXiv 2303.05499), all names in one text: "dog. cat.".

    A box scores the mean sigmoid over a name's tokens, as the authors' evaluation on COCO has it: a bear, which fires
    only the second token of "teddy bear", is not taken for one. Overlapping boxes of one object stay, so boxes are no
    counts.
    """

    KIND: ClassVar[str] = "GroundingDinoForObjectDetection"
    MODEL_TYPE: ClassVar[str | None] = "grounding-dino"
    CRITERIA: ClassVar[tuple[float | str, ...]] = ("{name}. ", MIN_SCORE)

    def require(self, names: Sequence[str]) -> None:
        """Raise UserError for a name without a letter or digit, or with a sign that ends a phrase."""
        super().require(names)
        for name in names:
            if set(name) & set(ENDS):
                raise UserError(f"the judge cannot look for {name!r}: {' or '.join(ENDS)} ends a name; leave it out")

    def _find(self, images: np.ndarray, names: tuple[str, ...]) -> list[list[Detection]]:
        text, spans = phrases_text(names)
        tokens = self.tokenizer(text, return_offsets_mapping=True)
        if len(tokens["input_ids"]) > self.model.config.max_text_len:
            raise UserError(
                f"{len(names)} names have {len(tokens['input_ids'])} tokens, and {self.KIND} reads "
                f"{self.model.config.max_text_len}; ask for fewer names at a time"
            )
        weights_NK = name_weights(tokens["offset_mapping"], text, spans, self.model.config.max_text_len).to(self.device)
        ids = torch.tensor([tokens["input_ids"]] * len(images), device=self.device)
        output = self.model(pixel_values=model_pixels(images, self.pixels, self.device), input_ids=ids)
        size = images.shape[1:3]
        return [
            best_named(probs_QK @ weights_NK.T, pixel_boxes(boxes_Q4, frame=size, size=size), names, MIN_SCORE)
            for probs_QK, boxes_Q4 in zip(output.logits.sigmoid(), output.pred_boxes, strict=True)
        ]


def phrases_text(names: Sequence[str]) -> tuple[str, list[Span]]:
    """Return the text that asks for all names, and each name's character span [start, end) in it."""
    text = ""
    spans: list[Span] = []
    for name in names:
        phrase = " ".join(name.lower().split())
        spans.append((len(text), len(text) + len(phrase)))
        text += f"{phrase}. "
    return text.rstrip(), spans


def name_weights(offsets: Sequence[Span], text: str, spans: Sequence[Span], length: int) -> Tensor:
    """Return weights_NK (N, K = `length`): row n averages the tokens of span n.

    Raises UserError for a name without tokens.
    """
    weights_NK = torch.zeros(len(spans), length)
    for n, span in enumerate(spans):
        tokens = tokens_of_span(offsets, span)
        if not tokens:
            raise UserError(f"the judge's vocabulary makes no token of {text[slice(*span)]!r}; choose another name")
        weights_NK[n, tokens] = 1 / len(tokens)
    return weights_NK
