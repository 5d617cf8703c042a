"""FLUX.2 [dev]: the transformer of FLUX.2 with the guidance as an input, and Mistral Small 3 as its reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from l2s_core.backbones.component import MistralTokenizer, TransformersNetwork
from l2s_core.backbones.flux2 import Flux2Backbone
from l2s_core.prompts.tokens import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM = (
    "You are an AI that reasons about image descriptions. You give structured responses focusing on object "
    "relationships, object\nattribution and actions without speculation."
)
"""What the chat's model is told before every prompt, as the model was published."""


class Flux2DevBackbone(Flux2Backbone):
    """Adapter over diffusers' Flux2Transformer2DModel with Mistral 3: FLUX.2 [dev].

    Its guidance is an input, so there is no negative prompt.
    """

    COMPONENTS = {
        **Flux2Backbone.COMPONENTS,
        "text_encoder": TransformersNetwork(name="Mistral3ForConditionalGeneration"),
        "tokenizer": MistralTokenizer(texts=(SYSTEM,)),
    }
    HIDDEN = (10, 20, 30)

    @property
    def classifier_free(self) -> bool:
        return False

    @classmethod
    def template(cls, tokenizer: PreTrainedTokenizerBase) -> Template:
        """Return the chat of a text: what the model is told, and what the user says."""

        def fill(text: str) -> str:
            said = [("system", SYSTEM), ("user", text)]
            chat = [{"role": role, "content": [{"type": "text", "text": words}]} for role, words in said]
            return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=False))

        return fill
