"""FLUX's family: a transformer over text and image tokens together, sampled along a rectified flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from l2s_core.attention.layers import AttentionInputs, AttentionLayer
from l2s_core.backbones.component import (
    ClipTokenizer,
    DiffusersNetwork,
    Scheduler,
    T5Tokenizer,
    TransformersNetwork,
)
from l2s_core.backbones.flow import euler_schedule
from l2s_core.backbones.model import DiffusersModel, token_ids
from l2s_core.diffusion.condition import Condition, TextEncoding, guided
from l2s_core.diffusion.schedule import Schedule
from l2s_core.prompts.prompt import Phrases
from l2s_core.prompts.tokens import phrase_weights

PATCH = 2  # latents of a side that make one token


class FluxBackbone(DiffusersModel):
    """Adapter over diffusers' FluxTransformer2DModel, with and without an embedding of the guidance.

    Latents are packed to tokens around each call of the transformer.
    """

    COMPONENTS = {
        "transformer": DiffusersNetwork(name="FluxTransformer2DModel"),
        "vae": DiffusersNetwork(name="AutoencoderKL"),
        "text_encoder": TransformersNetwork(name="CLIPTextModel"),
        "tokenizer": ClipTokenizer(),
        "text_encoder_2": TransformersNetwork(name="T5EncoderModel"),
        "tokenizer_2": T5Tokenizer(),
        "scheduler": Scheduler(name="FlowMatchEulerDiscreteScheduler"),
    }
    DENOISER = "transformer"
    PATCH = PATCH
    PHRASES = ("tokenizer_2",)
    FLOW = True
    SOFTMAXES = ("text", "joint")
    TINY_SIDE = 64

    @property
    def classifier_free(self) -> bool:
        return not self.denoiser.config.guidance_embeds

    def from_pipeline(self, latents: Tensor) -> Tensor:
        return unpack(latents.float(), *self.token_sides)

    def to_pipeline(self, latents: Tensor) -> Tensor:
        return pack(latents)

    def _encode(self, texts: list[str]) -> TextEncoding:
        clip_ids = token_ids(self.parts["tokenizer"], texts).to(self.device)
        pooled = self.use("text_encoder")(clip_ids).pooler_output
        t5_ids = token_ids(self.parts["tokenizer_2"], texts).to(self.device)
        context = self.use("text_encoder_2")(t5_ids).last_hidden_state
        return TextEncoding(context_BKD=context, pooled_BD=pooled)

    @classmethod
    def weigh_phrases(cls, tokenizers: Mapping[str, Any], prompts: Sequence[Phrases]) -> Tensor:
        tokenizer = tokenizers["tokenizer_2"]
        return phrase_weights(tokenizer, prompts, tokenizer.model_max_length)

    def schedule(self, steps: int) -> Schedule:
        """Euler steps of the flow, at sigmas spread evenly before the scheduler's shift."""
        return euler_schedule(self.parts["scheduler"], steps, tokens=self.image_tokens, even_sigmas=True)

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The velocity noise - x0; `timestep` is the flow's sigma in [0, 1]."""
        return guided(lambda z, text: self._velocity(z, timestep, text, condition.guidance), latents, condition)

    def _velocity(self, latents: Tensor, sigma: float, text: TextEncoding, guidance: float | None) -> Tensor:
        transformer = self.use("transformer")
        tokens = pack(latents).to(transformer.dtype)
        output = transformer(
            hidden_states=tokens,
            encoder_hidden_states=text.context_BKD,
            pooled_projections=text.pooled_BD,
            timestep=tokens.new_full((len(tokens),), sigma),
            guidance=self._embedded(tokens, guidance),
            img_ids=self._ids[self._words :].to(tokens),
            txt_ids=self._ids[: self._words].to(tokens),
            return_dict=False,
        )[0]
        return unpack(output, *self.token_sides).to(latents.dtype)

    def _embedded(self, tokens: Tensor, guidance: float | None) -> Tensor | None:
        """The guidance of every image, (B), where the model has it as an input."""
        if not self.denoiser.config.guidance_embeds:
            return None
        return tokens.new_full((len(tokens),), guidance or 0.0)  # METHOD inverts at guidance 0

    def _layers(self, *, joint: bool) -> list[AttentionLayer]:
        """The double blocks, then the single ones; queries and keys as they meet, after norm and rotation."""
        read = partial(_read, self.denoiser.pos_embed(self._ids), self._words, joint)
        layers = []
        for i, block in enumerate(self.denoiser.transformer_blocks):
            attn = block.attn
            double = (attn.norm_q, attn.norm_k, attn.norm_added_k)
            layers.append(AttentionLayer(name=f"double.{i}", heads=attn.heads, sources=double, read=read))
        for i, block in enumerate(self.denoiser.single_transformer_blocks):
            attn = block.attn
            single = (attn.norm_q, attn.norm_k)
            layers.append(AttentionLayer(name=f"single.{i}", heads=attn.heads, sources=single, read=read))
        return layers

    @cached_property
    def _ids(self) -> Tensor:
        """Positions of the text tokens, all zero, and of the image tokens, (K + P, 3), on the device."""
        return torch.cat([torch.zeros(self._words, 3), image_ids(*self.token_sides)]).to(self.device)

    @property
    def _words(self) -> int:
        """Number of text tokens."""
        words: int = self.parts["tokenizer_2"].model_max_length
        return words


def _read(
    rotary: tuple[Tensor, Tensor],
    words: int,
    joint: bool,
    query_BNHD: Tensor,
    key_BNHD: Tensor,
    text_BKHD: Tensor | None = None,
) -> AttentionInputs:
    """Image queries and text (or all) keys of a block, rotated.

    A double block keeps its text apart; in a single one the sequence is text, then image.
    """
    from diffusers.models.embeddings import apply_rotary_emb

    if text_BKHD is not None:
        key_BNHD = torch.cat([text_BKHD, key_BNHD], dim=1)
    else:
        query_BNHD = query_BNHD[:, words:]
    if not joint:
        key_BNHD = key_BNHD[:, :words]
    places = key_BNHD.shape[1]
    query = apply_rotary_emb(query_BNHD, tuple(table[words:] for table in rotary), sequence_dim=1)
    key = apply_rotary_emb(key_BNHD, tuple(table[:places] for table in rotary), sequence_dim=1)
    return AttentionInputs(query.transpose(1, 2), key.transpose(1, 2))


def pack(latents_BCHW: Tensor) -> Tensor:
    """(B, C, 2h, 2w) latents to (B, h w, 4 C) tokens, row by row."""
    batch, channels, height, width = latents_BCHW.shape
    patches = latents_BCHW.view(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, (height // PATCH) * (width // PATCH), channels * PATCH**2)


def unpack(tokens_BPE: Tensor, rows: int, columns: int) -> Tensor:
    """Undo `pack` for rows x columns tokens."""
    patches = tokens_BPE.unflatten(-1, (-1, PATCH, PATCH)).unflatten(1, (rows, columns))  # (B, h, w, C, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def image_ids(rows: int, columns: int) -> Tensor:
    """Positions (0, row, column) of rows x columns tokens, (P, 3)."""
    row_RC, column_RC = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.zeros_like(row_RC), row_RC, column_RC], dim=-1).reshape(-1, 3).float()
