"""SANA: a transformer with linear self-attention and cross-attention to the tokens of a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from l2s_core.attention.layers import AttentionLayer, split_projections
from l2s_core.backbones.component import DiffusersNetwork, GemmaTokenizer, Scheduler, TransformersNetwork
from l2s_core.backbones.flow import euler_schedule
from l2s_core.backbones.model import DiffusersModel, tokenized, window
from l2s_core.backbones.solvers import KINDS
from l2s_core.diffusion.condition import Condition, TextEncoding, guided
from l2s_core.diffusion.schedule import Schedule
from l2s_core.prompts.prompt import Phrases
from l2s_core.prompts.tokens import SmallLetters, phrase_weights, small_letters

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LENGTH = 300  # tokens of a text that the model attends to (Xie et al. 2024, arXiv 2410.10629)
TIMESTEPS = 1000  # that the model was trained at, between image and noise
INSTRUCTION = (
    "Given a user prompt, generate an 'Enhanced prompt' that provides detailed visual descriptions suitable "
    "for image generation. Evaluate the level of detail in the user prompt:\n"
    "- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial "
    "relationships to create vivid and concrete scenes.\n"
    "- If the prompt is already detailed, refine and enhance the existing details slightly without "
    "overcomplicating.\n"
    "Here are examples of how to transform or refine prompts:\n"
    "- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, "
    "sleeping peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.\n"
    "- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing "
    "street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus passing by "
    "towering glass skyscrapers.\n"
    "Please generate only the enhanced description for the prompt below and avoid including any additional "
    "commentary or evaluations:\n"
    "User Prompt: "
)
"""What comes before every prompt, as the model was published."""


class SanaBackbone(DiffusersModel):
    """Adapter over diffusers' SanaTransformer2DModel, sampled with Euler steps of its flow.

    The model was published with DPM-Solver++ of second order; Euler steps are its first order, at the same noise
    levels. A prompt is read in small letters after an instruction (Xie et al. 2024, section 3.1). Of both the model
    attends to the first token and the last 299 of the window, which has the prompt's and padding, masked. A negative
    prompt has no instruction.
    """

    COMPONENTS = {
        "transformer": DiffusersNetwork(name="SanaTransformer2DModel", stating={"guidance_embeds": False}),
        "vae": DiffusersNetwork(name="AutoencoderDC"),
        "text_encoder": TransformersNetwork(name="Gemma2Model"),
        "tokenizer": GemmaTokenizer(texts=(INSTRUCTION,)),
        "scheduler": Scheduler(name="DPMSolverMultistepScheduler", stating={"prediction_type": "flow_prediction"}),
    }
    DENOISER = "transformer"
    FLOW = True

    @classmethod
    def pixels_per_latent(cls, settings: Mapping[str, Any]) -> int:
        return 2 ** (len(settings["encoder_block_out_channels"]) - 1)

    def _encode(self, texts: list[str]) -> TextEncoding:
        tokenizer = self.parts["tokenizer"]
        skipped = _skipped(tokenizer)
        read = [INSTRUCTION + small_letters(text) for text in texts]
        words_BKD, mask_BK = self._encode_whole(read, skipped + window(tokenizer, LENGTH) - 1)
        words, mask = (torch.cat([whole[:, :1], whole[:, skipped:]], dim=1) for whole in (words_BKD, mask_BK))
        return TextEncoding(context_BKD=words, mask_BK=mask)

    def _encode_negative(self, texts: list[str]) -> TextEncoding:
        length = window(self.parts["tokenizer"], LENGTH)
        words, mask = self._encode_whole([small_letters(text) for text in texts], length)
        return TextEncoding(context_BKD=words, mask_BK=mask)

    def _encode_whole(self, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
        ids, mask = tokenized(self.parts["tokenizer"], texts, length, padding_side="right")
        ids_BK, mask_BK = ids.to(self.device), mask.to(self.device)
        words: Tensor = self.use("text_encoder")(ids_BK, attention_mask=mask_BK).last_hidden_state
        return words, mask_BK.bool()

    @classmethod
    def weigh_phrases(cls, tokenizers: Mapping[str, Any], prompts: Sequence[Phrases]) -> Tensor:
        tokenizer = tokenizers["tokenizer"]
        weights_BOK = phrase_weights(
            tokenizer,
            [SmallLetters.of(prompt) for prompt in prompts],
            window(tokenizer, LENGTH) - 1,
            template=lambda text: INSTRUCTION + text,
            skipped=_skipped(tokenizer),
        )
        return pad(weights_BOK, (1, 0))  # the first token is no word

    @classmethod
    def solvers(cls) -> tuple[str, ...]:
        return tuple(KINDS)

    def schedule(self, steps: int) -> Schedule:
        """Euler steps of the flow, at the scheduler's own sigmas."""
        return euler_schedule(self.parts["scheduler"], steps, tokens=self.image_tokens)

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The velocity noise - x0; `timestep` is the flow's sigma in [0, 1], which the model reads in whole steps."""
        return guided(lambda z, text: self._velocity(z, timestep, text), latents, condition)

    def _velocity(self, latents: Tensor, sigma: float, text: TextEncoding) -> Tensor:
        transformer = self.use("transformer")
        timestep = float(int(sigma * TIMESTEPS)) * transformer.config.timestep_scale
        predicted: Tensor = transformer(
            latents.to(transformer.dtype),
            encoder_hidden_states=text.context_BKD,
            encoder_attention_mask=text.mask_BK,
            timestep=torch.full((len(latents),), timestep, device=latents.device),
            return_dict=False,
        )[0]
        return predicted.to(latents.dtype)

    def _means(self, vae: Any, pixels: Tensor) -> Tensor:
        latents: Tensor = vae.encode(pixels).latent  # this autoencoder has no distribution
        return latents

    def _layers(self, *, joint: bool) -> list[AttentionLayer]:
        """The cross-attention (`attn2`) of every block; norms follow the projections only where the model has them."""
        layers = []
        for i, block in enumerate(self.denoiser.transformer_blocks):
            attn = block.attn2
            choices = ((attn.norm_q, attn.to_q), (attn.norm_k, attn.to_k))
            sources = tuple(norm if norm is not None else projection for norm, projection in choices)
            read = partial(split_projections, attn.heads)
            layers.append(AttentionLayer(name=f"cross.{i}", heads=attn.heads, sources=sources, read=read, called=attn))
        return layers


def _skipped(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens of a text are left out after the first: the instruction's, but for its own last one."""
    return len(tokenizer(INSTRUCTION, verbose=False).input_ids) - 1
