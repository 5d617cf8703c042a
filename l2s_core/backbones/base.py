"""What the rest of the core may ask of a text-to-image model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from l2s_core.attention.layers import AttentionModel
from l2s_core.diffusion.denoiser import Denoiser
from l2s_core.prompts.prompt import Phrases


class Backbone(Denoiser, AttentionModel, Protocol):
    """A text-to-image model whose attention can be read."""

    @property
    def files_fingerprint(self) -> str:
        """That of the model's files, before LoRAs were merged into their weights."""
        ...

    @property
    def classifier_free(self) -> bool:
        """Whether guidance means a second, empty prompt; else it is an input of the model."""
        ...

    @property
    def compiled(self) -> bool:
        """Whether sampling runs a denoiser that torch.compile has compiled."""
        ...

    def differentiable(self) -> AbstractContextManager[None]:
        """A context for a pass and the gradient that comes back through it."""
        ...

    def phrase_weights(self, prompts: Sequence[Phrases]) -> Tensor:
        """weights_BOK of the prompts' object phrases over this model's text tokens."""
        ...
