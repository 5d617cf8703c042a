"""FLUX.2 [klein]: FLUX's two kinds of blocks, read by a chat model, with standardized patches of latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from l2s_core.backbones.component import DiffusersNetwork, QwenTokenizer, Scheduler, TransformersNetwork
from l2s_core.backbones.flow import euler_schedule
from l2s_core.backbones.flux import PATCH, FluxBackbone, image_ids, pack, unpack
from l2s_core.backbones.model import chat_template, tokenized, window
from l2s_core.diffusion.condition import TextEncoding
from l2s_core.diffusion.schedule import Schedule
from l2s_core.prompts.prompt import Phrases
from l2s_core.prompts.tokens import Template, phrase_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LENGTH = 512  # text window of this family, tokens, with the template of the chat


class Flux2Backbone(FluxBackbone):
    """Adapter over diffusers' Flux2Transformer2DModel with Qwen3: FLUX.2 [klein], distilled or not.

    The transformer attends to the padding of the text, too. A distilled model (`is_distilled` of its index) has its
    guidance trained in.
    """

    COMPONENTS = {
        "transformer": DiffusersNetwork(name="Flux2Transformer2DModel"),
        "vae": DiffusersNetwork(name="AutoencoderKLFlux2"),
        "text_encoder": TransformersNetwork(name="Qwen3ForCausalLM"),
        "tokenizer": QwenTokenizer(),
        "scheduler": Scheduler(name="FlowMatchEulerDiscreteScheduler"),
    }
    PHRASES = ("tokenizer",)

    HIDDEN: ClassVar[tuple[int, ...]] = (9, 18, 27)
    """Layers of the text encoder that the transformer reads, side by side."""

    @property
    def classifier_free(self) -> bool:
        return not self.settings.get("is_distilled", False)

    @classmethod
    def template(cls, tokenizer: PreTrainedTokenizerBase) -> Template:
        """Return the chat that the text encoder reads of a text."""
        return chat_template(tokenizer, enable_thinking=False)

    def _encode(self, texts: list[str]) -> TextEncoding:
        tokenizer = self.parts["tokenizer"]
        chats = list(map(self.template(tokenizer), texts))
        ids_BK, mask_BK = (part.to(self.device) for part in tokenized(tokenizer, chats, self._words, special=False))
        encoder = self.use("text_encoder").base_model  # without the head, which says what comes next
        hidden = encoder(
            input_ids=ids_BK, attention_mask=mask_BK, output_hidden_states=True, use_cache=False
        ).hidden_states
        return TextEncoding(context_BKD=torch.cat([hidden[layer] for layer in self.HIDDEN], dim=-1))

    @classmethod
    def weigh_phrases(cls, tokenizers: Mapping[str, Any], prompts: Sequence[Phrases]) -> Tensor:
        tokenizer = tokenizers["tokenizer"]
        return phrase_weights(
            tokenizer,
            prompts,
            window(tokenizer, LENGTH),
            template=cls.template(tokenizer),
            padding=tokenizer.padding_side,
            special=False,
        )

    def schedule(self, steps: int) -> Schedule:
        """Euler steps of the flow, at sigmas spread evenly before a shift that depends on their number, too."""
        tokens = self.image_tokens
        shift = shift_of(tokens, steps)
        return euler_schedule(self.parts["scheduler"], steps, tokens=tokens, even_sigmas=True, mu=shift)

    def _standardize(self, means: Tensor) -> Tensor:
        """The autoencoder's means to latents: each place of a patch has a mean and a deviation of its own."""
        mean, deviation = self._statistics(means)
        return pixel_shuffle((pixel_unshuffle(means, PATCH) - mean) / deviation, PATCH)

    def _destandardize(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        return pixel_shuffle(pixel_unshuffle(latents, PATCH) * deviation + mean, PATCH)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of a patch's latents, (4 C, 1, 1) each."""
        patches = self.vae.bn
        variance = patches.running_var + self.vae.config.batch_norm_eps
        return patches.running_mean.view(-1, 1, 1).to(like), variance.sqrt().view(-1, 1, 1).to(like)

    def _velocity(self, latents: Tensor, sigma: float, text: TextEncoding, guidance: float | None) -> Tensor:
        transformer = self.use("transformer")
        tokens = pack(latents).to(transformer.dtype)
        output = transformer(
            hidden_states=tokens,
            encoder_hidden_states=text.context_BKD,
            timestep=tokens.new_full((len(tokens),), sigma),
            guidance=self._embedded(tokens, guidance),
            img_ids=self._ids[self._words :],
            txt_ids=self._ids[: self._words],
            return_dict=False,
        )[0]
        return unpack(output, *self.token_sides).to(latents.dtype)

    @cached_property
    def _ids(self) -> Tensor:
        """Positions (time, row, column, place in the text) of text and image tokens, (K + P, 4), on the device."""
        text = torch.zeros(self._words, 4)
        text[:, 3] = torch.arange(self._words)
        image = pad(image_ids(*self.token_sides), (0, 1))
        return torch.cat([text, image]).to(self.device)

    @property
    def _words(self) -> int:
        return window(self.parts["tokenizer"], LENGTH)


def shift_of(tokens: int, steps: int) -> float:
    """Return mu for an image of `tokens` tokens in `steps` steps, as the model's authors fitted it.

    It is linear in the tokens at 10 and at 200 steps and linear in the steps between; larger images than 4300 tokens
    have that of 200 steps.
    """
    at_10 = 8.73809524e-05 * tokens + 1.89833333
    at_200 = 1.6927e-04 * tokens + 0.45666666
    return at_200 if tokens > 4300 else at_200 + (at_200 - at_10) * (steps - 200) / 190
