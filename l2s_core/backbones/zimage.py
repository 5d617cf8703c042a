"""Z-Image: one stream of image and text tokens, of which every text has its own number, read by a chat model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from l2s_core.attention.layers import AttentionInputs, AttentionLayer
from l2s_core.backbones.component import DiffusersNetwork, QwenTokenizer, Scheduler, TransformersNetwork
from l2s_core.backbones.flow import euler_schedule
from l2s_core.backbones.model import DiffusersModel, chat_template, tokenized, window
from l2s_core.diffusion.condition import Condition, TextEncoding, guided
from l2s_core.diffusion.schedule import Schedule
from l2s_core.prompts.prompt import Phrases
from l2s_core.prompts.tokens import phrase_weights

LENGTH = 512  # text window of this family, tokens, with the template of the chat
MULTIPLE = 32  # image and text are each filled up to a multiple of it, with tokens that are attended to
THINKING = True  # what the pipeline asks the template for; it leaves the beginning of the answer open


class ZImageBackbone(DiffusersModel):
    """Adapter over diffusers' ZImageTransformer2DModel with Qwen3: Z-Image and Z-Image-Turbo.

    Its guidance counts as in every family, 1 for none: the pipeline's, which is 0 for none, is smaller by 1.
    """

    COMPONENTS = {
        "transformer": DiffusersNetwork(name="ZImageTransformer2DModel"),
        "vae": DiffusersNetwork(name="AutoencoderKL"),
        "text_encoder": TransformersNetwork(name="Qwen3Model", others=("Qwen3ForCausalLM",)),
        "tokenizer": QwenTokenizer(),
        "scheduler": Scheduler(name="FlowMatchEulerDiscreteScheduler"),
    }
    DENOISER = "transformer"
    PATCH = 2
    FLOW = True
    SOFTMAXES = ("text", "joint")
    TEXT_FIRST = False
    TINY_SIDE = 64

    def _encode(self, texts: list[str]) -> TextEncoding:
        """The last but one layer of the encoder; its mask says which tokens the transformer gets."""
        tokenizer = self.parts["tokenizer"]
        template = chat_template(tokenizer, enable_thinking=THINKING)
        ids_BK, mask_BK = tokenized(tokenizer, [template(text) for text in texts], window(tokenizer, LENGTH))
        mask_BK = mask_BK.to(self.device).bool()
        encoder = self.use("text_encoder")
        hidden = encoder(ids_BK.to(self.device), attention_mask=mask_BK, output_hidden_states=True, use_cache=False)
        return TextEncoding(context_BKD=hidden.hidden_states[-2], mask_BK=mask_BK)

    @classmethod
    def weigh_phrases(cls, tokenizers: Mapping[str, Any], prompts: Sequence[Phrases]) -> Tensor:
        tokenizer = tokenizers["tokenizer"]
        template = chat_template(tokenizer, enable_thinking=THINKING)
        return phrase_weights(tokenizer, prompts, window(tokenizer, LENGTH), template=template)

    def schedule(self, steps: int) -> Schedule:
        """Euler steps of the flow, at sigmas spread evenly before the scheduler's shift."""
        return euler_schedule(self.parts["scheduler"], steps, tokens=self.image_tokens, even_sigmas=True)

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The velocity noise - x0; `timestep` is the flow's sigma in [0, 1]."""
        return guided(lambda z, text: self._velocity(z, timestep, text), latents, condition)

    def _velocity(self, latents: Tensor, sigma: float, text: TextEncoding) -> Tensor:
        """The model's time runs from noise to image, and its output points that way."""
        transformer = self.use("transformer")
        images = latents.to(transformer.dtype).unsqueeze(2)  # (B, C, 1, h, w): videos of one picture
        towards_image: list[Tensor] = transformer(
            list(images), images.new_full((len(images),), 1 - sigma), _without_padding(text), return_dict=False
        )[0]
        return -torch.stack(towards_image).squeeze(2).to(latents.dtype)

    def _layers(self, *, joint: bool) -> list[AttentionLayer]:
        """The blocks over image and text together; those before have either alone."""
        return [
            AttentionLayer(
                name=f"single.{i}",
                heads=block.attention.heads,
                sources=(block.attention.norm_q, block.attention.norm_k),
                read=partial(_read, self.image_tokens, joint),
                called=block.attention,
            )
            for i, block in enumerate(self.denoiser.layers)
        ]


def _without_padding(text: TextEncoding) -> list[Tensor]:
    """The tokens of each text that count, (k, D); where nothing has values (device "meta") the whole window."""
    if text.mask_BK is None or text.mask_BK.is_meta:
        return list(text.context_BKD)
    return [tokens_KD[counts_K] for tokens_KD, counts_K in zip(text.context_BKD, text.mask_BK, strict=True)]


def _read(
    places: int,
    joint: bool,
    query_BNHD: Tensor,
    key_BNHD: Tensor,
    *,
    freqs_cis: Tensor,
    attention_mask: Tensor | None = None,
) -> AttentionInputs:
    """Image queries and text (or all) keys of a block, rotated by what it was called with, and its mask of them.

    The sequence is image, text, and what fills up shorter texts of the batch, which is masked.
    """
    image = -(-places // MULTIPLE) * MULTIPLE
    text_first = torch.arange(key_BNHD.shape[1], device=key_BNHD.device).roll(-image)
    kept = text_first if joint else text_first[:-image]
    query = _rotated(query_BNHD[:, :places], freqs_cis[:, :places])
    key = _rotated(key_BNHD[:, kept], freqs_cis[:, kept])
    mask_B1K = None if attention_mask is None else attention_mask[:, None, kept]
    return AttentionInputs(query.transpose(1, 2), key.transpose(1, 2), mask_B1K)


def _rotated(tokens_BNHD: Tensor, turns_BNC: Tensor) -> Tensor:
    """Tokens with pairs of their numbers turned, as complex numbers; in float32, as the model does it."""
    pairs_BNHC = torch.view_as_complex(tokens_BNHD.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs_BNHC * turns_BNC.unsqueeze(2)).flatten(3).to(tokens_BNHD)
