"""PixArt-Sigma: cross-attention of a transformer to T5 tokens, whose padding is masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from l2s_core.attention.layers import AttentionLayer, split_projections
from l2s_core.backbones.component import DiffusersNetwork, NoiseSchedule, T5Tokenizer, TransformersNetwork
from l2s_core.backbones.ddim import ddim_schedule
from l2s_core.backbones.model import DiffusersModel, tokenized, window
from l2s_core.diffusion.condition import Condition, TextEncoding, guided
from l2s_core.diffusion.schedule import Schedule
from l2s_core.prompts.prompt import Phrases
from l2s_core.prompts.tokens import SmallLetters, phrase_weights, small_letters

T5_LENGTH = 300  # text window of this family, tokens (Chen et al. 2024, arXiv 2403.04692)


class PixArtBackbone(DiffusersModel):
    """Adapter over diffusers' PixArtTransformer2DModel: PixArt-Sigma, sampled with DDIM.

    Texts are read in small letters, as the pipeline does. The model predicts the noise and its variance; the variance
    is not used.
    """

    COMPONENTS = {
        "transformer": DiffusersNetwork(name="PixArtTransformer2DModel"),
        "vae": DiffusersNetwork(name="AutoencoderKL"),
        "text_encoder": TransformersNetwork(name="T5EncoderModel"),
        "tokenizer": T5Tokenizer(),
        "scheduler": NoiseSchedule(name="DDIMScheduler"),  # whatever scheduler the model was published with
    }
    DENOISER = "transformer"
    PATCH = 2

    def _encode(self, texts: list[str]) -> TextEncoding:
        tokenizer = self.parts["tokenizer"]
        small = [small_letters(text) for text in texts]
        ids_BK, mask_BK = (part.to(self.device) for part in tokenized(tokenizer, small, window(tokenizer, T5_LENGTH)))
        words = self.use("text_encoder")(ids_BK, attention_mask=mask_BK).last_hidden_state
        return TextEncoding(context_BKD=words, mask_BK=mask_BK.bool())

    @classmethod
    def weigh_phrases(cls, tokenizers: Mapping[str, Any], prompts: Sequence[Phrases]) -> Tensor:
        tokenizer = tokenizers["tokenizer"]
        return phrase_weights(tokenizer, [SmallLetters.of(prompt) for prompt in prompts], window(tokenizer, T5_LENGTH))

    def schedule(self, steps: int) -> Schedule:
        """DDIM at the scheduler's own timesteps."""
        return ddim_schedule(self.parts["scheduler"], steps)

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The noise; `timestep` is the scheduler's, 0 to 999."""
        return guided(lambda z, text: self._noise(z, timestep, text), latents, condition)

    def _noise(self, latents: Tensor, timestep: float, text: TextEncoding) -> Tensor:
        transformer = self.use("transformer")
        predicted: Tensor = transformer(
            latents.to(transformer.dtype),
            encoder_hidden_states=text.context_BKD,
            encoder_attention_mask=text.mask_BK,
            timestep=latents.new_full((len(latents),), timestep),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return predicted[:, : latents.shape[1]].to(latents.dtype)

    def _layers(self, *, joint: bool) -> list[AttentionLayer]:
        """The cross-attention (`attn2`) of every block."""
        return [
            AttentionLayer(
                name=f"cross.{i}",
                heads=block.attn2.heads,
                sources=(block.attn2.to_q, block.attn2.to_k),
                read=partial(split_projections, block.attn2.heads),
                called=block.attn2,
            )
            for i, block in enumerate(self.denoiser.transformer_blocks)
        ]
