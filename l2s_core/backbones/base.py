"""What the rest of the core may ask of a text-to-image model."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from l2s_core.attention.capture import AttentionLayer
from l2s_core.diffusion.denoiser import Denoiser
from l2s_core.prompts.prompt import Phrases


class Backbone(Denoiser, Protocol):
    """A text-to-image model whose attention can be read."""

    def phrase_weights(self, prompts: list[Phrases]) -> Tensor:
        """weights_BOK of the prompts' object phrases over this model's text tokens."""
        ...

    def layers(self, softmax: str = "text") -> list[AttentionLayer]:
        """Every layer in which image tokens attend to text, in the order the forward pass reaches them.

        Softmax over the text keys alone ("text"), or over text and image keys where a model has both in
        one row ("joint").
        """
        ...
