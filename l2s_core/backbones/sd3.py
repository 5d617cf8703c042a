"""Stable Diffusion 3 and 3.5: joint attention of image and text, two CLIP encoders and T5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from l2s_core.attention.layers import AttentionInputs, AttentionLayer, split_heads
from l2s_core.backbones.component import (
    ClipTokenizer,
    DiffusersNetwork,
    Scheduler,
    T5Tokenizer,
    TransformersNetwork,
)
from l2s_core.backbones.flow import euler_schedule
from l2s_core.backbones.model import DiffusersModel, token_ids, window
from l2s_core.backbones.sdxl import clip_layer
from l2s_core.diffusion.condition import Condition, TextEncoding, guided
from l2s_core.diffusion.schedule import Schedule
from l2s_core.errors import UserError
from l2s_core.prompts.prompt import Phrases
from l2s_core.prompts.tokens import phrase_weights
from l2s_core.sizes import Size, size_text

T5_LENGTH = 256  # text window of T5 in this family, tokens


class SD3Backbone(DiffusersModel):
    """Adapter over diffusers' SD3Transformer2DModel.

    The text is the CLIP tokens followed by the T5 tokens; a phrase is the mean of its tokens in both.
    """

    COMPONENTS = {
        "transformer": DiffusersNetwork(name="SD3Transformer2DModel"),
        "vae": DiffusersNetwork(name="AutoencoderKL"),
        "text_encoder": TransformersNetwork(name="CLIPTextModelWithProjection"),
        "tokenizer": ClipTokenizer(),
        "text_encoder_2": TransformersNetwork(name="CLIPTextModelWithProjection"),
        "tokenizer_2": ClipTokenizer(),
        "text_encoder_3": TransformersNetwork(name="T5EncoderModel"),
        "tokenizer_3": T5Tokenizer(),
        "scheduler": Scheduler(name="FlowMatchEulerDiscreteScheduler"),
    }
    DENOISER = "transformer"
    PATCH = 2
    PHRASES = ("tokenizer", "tokenizer_3")
    FLOW = True
    SOFTMAXES = ("text", "joint")
    TEXT_FIRST = False

    def _latent_shape(self, size: Size | None) -> tuple[int, int, int]:
        """Its positions end at a side: raises UserError for a longer one."""
        shape = super()._latent_shape(size)
        most = self.denoiser.config.pos_embed_max_size * self.PATCH
        if max(shape[1:]) > most:
            raise UserError(
                f"backbone.size is {size_text(size or shape[1:])}; this model has positions for "
                f"{most * self.pixels_per_latent(self.vae.config)} pixels a side at most"
            )
        return shape

    def _encode(self, texts: list[str]) -> TextEncoding:
        first, pooled = clip_layer(self, "text_encoder", "tokenizer", texts)
        second, pooled_2 = clip_layer(self, "text_encoder_2", "tokenizer_2", texts)
        clip = torch.cat([first, second], dim=-1)
        ids = token_ids(self.parts["tokenizer_3"], texts, window(self.parts["tokenizer_3"], T5_LENGTH)).to(self.device)
        words = self.use("text_encoder_3")(ids).last_hidden_state
        context = torch.cat([pad(clip, (0, words.shape[-1] - clip.shape[-1])), words], dim=1)
        return TextEncoding(context_BKD=context, pooled_BD=torch.cat([pooled, pooled_2], dim=-1))

    @classmethod
    def weigh_phrases(cls, tokenizers: Mapping[str, Any], prompts: Sequence[Phrases]) -> Tensor:
        clip, t5 = tokenizers["tokenizer"], tokenizers["tokenizer_3"]
        halves = (
            phrase_weights(clip, prompts, clip.model_max_length),
            phrase_weights(t5, prompts, window(t5, T5_LENGTH)),
        )
        return torch.cat(halves, dim=-1) / len(halves)

    def schedule(self, steps: int) -> Schedule:
        """Euler steps of the flow, at the scheduler's own sigmas."""
        return euler_schedule(self.parts["scheduler"], steps, tokens=self.image_tokens)

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The velocity noise - x0; `timestep` is the flow's sigma in [0, 1]."""
        return guided(lambda z, text: self._velocity(z, timestep, text), latents, condition)

    def _velocity(self, latents: Tensor, sigma: float, text: TextEncoding) -> Tensor:
        transformer = self.use("transformer")
        scale = self.parts["scheduler"].config.num_train_timesteps
        return transformer(
            hidden_states=latents.to(transformer.dtype),
            encoder_hidden_states=text.context_BKD,
            pooled_projections=text.pooled_BD,
            timestep=latents.new_full((len(latents),), sigma * scale),
            return_dict=False,
        )[0].to(latents.dtype)

    def _layers(self, *, joint: bool) -> list[AttentionLayer]:
        """The joint attention of every block; norms follow the projections only where the model has them."""
        layers = []
        for i, block in enumerate(self.denoiser.transformer_blocks):
            attn = block.attn
            choices = ((attn.norm_q, attn.to_q), (attn.norm_k, attn.to_k), (attn.norm_added_k, attn.add_k_proj))
            sources = tuple(norm if norm is not None else projection for norm, projection in choices)
            read = partial(_read, attn.heads, joint)
            layers.append(AttentionLayer(name=f"joint.{i}", heads=attn.heads, sources=sources, read=read))
        return layers


def _read(heads: int, joint: bool, query: Tensor, key: Tensor, text: Tensor) -> AttentionInputs:
    """Image queries and text (or text and image) keys, from a norm (B, H, N, D) or a projection (B, N, H D)."""
    query, key, text = (split_heads(t, heads) if t.ndim == 3 else t for t in (query, key, text))
    return AttentionInputs(query, torch.cat([text, key], dim=2) if joint else text)
