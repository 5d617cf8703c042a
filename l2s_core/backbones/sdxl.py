"""Stable Diffusion XL: the same UNet with two text encoders, a pooled text vector and size embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from l2s_core.backbones.component import ClipTokenizer, DiffusersNetwork, TransformersNetwork
from l2s_core.backbones.model import DiffusersModel, token_ids
from l2s_core.backbones.textual_inversion import Vectors
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.diffusion.condition import TextEncoding


class SDXLBackbone(UNetBackbone):
    """Adapter over SDXL's UNet2DConditionModel and its two encoders."""

    COMPONENTS = {
        **UNetBackbone.COMPONENTS,
        "unet": DiffusersNetwork(name="UNet2DConditionModel", stating={"addition_embed_type": "text_time"}),
        "text_encoder_2": TransformersNetwork(name="CLIPTextModelWithProjection"),
        "tokenizer_2": ClipTokenizer(),
    }
    TOKEN_VECTORS = {
        "tokenizer": Vectors("text_encoder", "clip_l"),
        "tokenizer_2": Vectors("text_encoder_2", "clip_g"),
    }

    def _encode(self, texts: list[str]) -> TextEncoding:
        """The last but one layer of both encoders side by side; the pooled vector is the second one's projection.

        The empty prompt counts as zeros, as the published model was trained (force_zeros_for_empty_prompt).
        """
        first = clip_layer(self, "text_encoder", "tokenizer", texts)[0]
        second, pooled = clip_layer(self, "text_encoder_2", "tokenizer_2", texts)
        context = torch.cat([first, second], dim=-1)
        if not any(texts):
            return TextEncoding(context_BKD=torch.zeros_like(context), pooled_BD=torch.zeros_like(pooled))
        return TextEncoding(context_BKD=context, pooled_BD=pooled)

    def _added(self, text: TextEncoding) -> dict[str, Tensor]:
        """Pooled text, and the sizes (original, crop corner, target) of an image shown whole."""
        pooled_BD = text.pooled_BD
        if pooled_BD is None:
            raise ValueError("SDXL wants a pooled vector of the text; encode prompts with this family")
        whole = [*self.image_sides, 0, 0, *self.image_sides]
        sizes = pooled_BD.new_tensor(whole).expand(len(pooled_BD), -1)
        return {"text_embeds": pooled_BD, "time_ids": sizes}


def clip_layer(backbone: DiffusersModel, encoder: str, tokenizer: str, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Return the last but one layer (B, K, D) of a CLIP encoder, and its first output (B, D or B, K, D).

    `encoder` and `tokenizer` are names of the backbone's components.
    """
    ids = token_ids(backbone.parts[tokenizer], texts).to(backbone.device)
    output = backbone.use(encoder)(ids, output_hidden_states=True)
    return output.hidden_states[-2], output[0]
