"""Qwen-Image: joint attention of image and text, which a model of chats reads, and an autoencoder of videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from l2s_core.attention.layers import AttentionInputs, AttentionLayer
from l2s_core.backbones.component import DiffusersNetwork, QwenTokenizer, Scheduler, TransformersNetwork
from l2s_core.backbones.flux import FluxBackbone, pack, unpack
from l2s_core.backbones.model import tokenized, window
from l2s_core.diffusion.condition import Condition, TextEncoding, guided
from l2s_core.prompts.prompt import Phrases
from l2s_core.prompts.tokens import phrase_weights

LENGTH = 512  # text window of this family, tokens
TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
SKIPPED = 34  # tokens of the template before the prompt, which are read and left out


class QwenImageBackbone(FluxBackbone):
    """Adapter over diffusers' QwenImageTransformer2DModel.

    The text is as long as the longest of a batch, its padding masked. A guided velocity keeps, in every image token,
    the norm that it has for the prompt alone.
    """

    COMPONENTS = {
        "transformer": DiffusersNetwork(name="QwenImageTransformer2DModel"),
        "vae": DiffusersNetwork(name="AutoencoderKLQwenImage"),
        "text_encoder": TransformersNetwork(name="Qwen2_5_VLForConditionalGeneration"),
        "tokenizer": QwenTokenizer(chat=False, texts=(TEMPLATE,)),
        "scheduler": Scheduler(name="FlowMatchEulerDiscreteScheduler"),
    }
    PHRASES = ("tokenizer",)
    LATENT_CHANNELS = "z_dim"

    @classmethod
    def pixels_per_latent(cls, settings: Mapping[str, Any]) -> int:
        return 2 ** len(settings["temperal_downsample"])

    @property
    def classifier_free(self) -> bool:
        return True

    def _encode(self, texts: list[str]) -> TextEncoding:
        tokenizer = self.parts["tokenizer"]
        ids, mask = tokenized(
            tokenizer,
            [TEMPLATE.format(text) for text in texts],
            SKIPPED + window(tokenizer, LENGTH),
            padding="longest",
            padding_side="right",
        )
        ids_BK, mask_BK = ids.to(self.device), mask.to(self.device)
        encoder = self.use("text_encoder").base_model  # without the head, which says what comes next
        words = encoder(input_ids=ids_BK, attention_mask=mask_BK, use_cache=False).last_hidden_state
        return TextEncoding(context_BKD=words[:, SKIPPED:], mask_BK=mask_BK[:, SKIPPED:].bool())

    @classmethod
    def weigh_phrases(cls, tokenizers: Mapping[str, Any], prompts: Sequence[Phrases]) -> Tensor:
        tokenizer = tokenizers["tokenizer"]
        length = window(tokenizer, LENGTH)
        return phrase_weights(tokenizer, prompts, length, template=TEMPLATE.format, skipped=SKIPPED)

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The velocity noise - x0; `timestep` is the flow's sigma in [0, 1]."""
        return guided(
            lambda z, text: self._velocity(z, timestep, text, None), latents, condition, rescale=self._with_norm_of
        )

    def _with_norm_of(self, velocity: Tensor, like: Tensor) -> Tensor:
        """A velocity (B, C, h, w) with the norm of another one in every image token."""
        tokens = pack(velocity)
        scale = pack(like).norm(dim=-1, keepdim=True) / tokens.norm(dim=-1, keepdim=True)
        return unpack(tokens * scale, *self.token_sides)

    def _velocity(self, latents: Tensor, sigma: float, text: TextEncoding, guidance: float | None) -> Tensor:
        transformer = self.use("transformer")
        tokens = pack(latents).to(transformer.dtype)
        output = transformer(
            hidden_states=tokens,
            encoder_hidden_states=text.context_BKD,
            encoder_hidden_states_mask=text.mask_BK,
            timestep=tokens.new_full((len(tokens),), sigma),
            img_shapes=[[(1, *self.token_sides)]] * len(tokens),
            return_dict=False,
        )[0]
        return unpack(output, *self.token_sides).to(latents.dtype)

    def _means(self, vae: Any, pixels: Tensor) -> Tensor:
        """The means of an image, which is a video of one frame."""
        return super()._means(vae, pixels.unsqueeze(2)).squeeze(2)

    def _pixels(self, vae: Any, means: Tensor) -> Tensor:
        return super()._pixels(vae, means.unsqueeze(2)).squeeze(2)

    def _standardize(self, means: Tensor) -> Tensor:
        """The autoencoder's means to latents: each channel has a mean and a deviation of its own."""
        mean, deviation = self._statistics(means)
        return (means - mean) / deviation

    def _destandardize(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        return latents * deviation + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the channels, (C, 1, 1) each."""
        config = self.vae.config
        return like.new_tensor(config.latents_mean).view(-1, 1, 1), like.new_tensor(config.latents_std).view(-1, 1, 1)

    def _layers(self, *, joint: bool) -> list[AttentionLayer]:
        """The joint attention of every block; queries and keys as they meet, after norm and rotation."""
        layers = []
        for i, block in enumerate(self.denoiser.transformer_blocks):
            attn = block.attn
            sources = (attn.norm_q, attn.norm_k, attn.norm_added_k)
            read = partial(_read, joint)
            layers.append(AttentionLayer(name=f"joint.{i}", heads=attn.heads, sources=sources, read=read, called=attn))
        return layers


def _read(
    joint: bool,
    query_BPHD: Tensor,
    key_BPHD: Tensor,
    text_BKHD: Tensor,
    *,
    encoder_hidden_states_mask: Tensor,
    image_rotary_emb: tuple[Tensor, Tensor],
) -> AttentionInputs:
    """Image queries and text (or text and image) keys, rotated, and their mask."""
    from diffusers.models.transformers.transformer_qwenimage import apply_rotary_emb_qwen

    image, text = image_rotary_emb
    query = apply_rotary_emb_qwen(query_BPHD, image, use_real=False)
    key = apply_rotary_emb_qwen(text_BKHD, text, use_real=False)
    mask_BK = encoder_hidden_states_mask
    if joint:
        key = torch.cat([key, apply_rotary_emb_qwen(key_BPHD, image, use_real=False)], dim=1)
        mask_BK = torch.cat([mask_BK, mask_BK.new_ones(key_BPHD.shape[:2])], dim=1)
    return AttentionInputs(query.transpose(1, 2), key.transpose(1, 2), mask_BK.unsqueeze(1))
