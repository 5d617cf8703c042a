"""Stable Diffusion's family: a UNet with cross-attention to CLIP text tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from l2s_core.attention.layers import AttentionLayer, split_projections
from l2s_core.backbones.component import ClipTokenizer, DiffusersNetwork, NoiseSchedule, TransformersNetwork
from l2s_core.backbones.ddim import ddim_schedule
from l2s_core.backbones.given_images import GivenImages
from l2s_core.backbones.model import DiffusersModel, token_ids
from l2s_core.backbones.textual_inversion import Vectors
from l2s_core.diffusion.condition import Condition, TextEncoding, guided
from l2s_core.diffusion.schedule import Schedule
from l2s_core.errors import UserError
from l2s_core.prompts.prompt import Phrases
from l2s_core.prompts.tokens import phrase_weights


class UNetBackbone(DiffusersModel):
    """Adapter over diffusers' UNet2DConditionModel: Stable Diffusion 1.x and 2.x."""

    COMPONENTS = {
        "unet": DiffusersNetwork(name="UNet2DConditionModel", stating={"addition_embed_type": None}),
        "vae": DiffusersNetwork(name="AutoencoderKL"),
        "text_encoder": TransformersNetwork(name="CLIPTextModel"),
        "tokenizer": ClipTokenizer(),
        "scheduler": NoiseSchedule(name="DDIMScheduler"),  # whatever scheduler the model was published with
    }
    DENOISER = "unet"
    TOKEN_VECTORS = {"tokenizer": Vectors("text_encoder")}

    pipeline: Any = None
    """Whose ControlNet and IP-Adapter act on the UNet; None for a model without either."""
    _given: GivenImages | None = None

    def given(self, control: Any = None, adapter: Any = None, *, scale: float = 1.0) -> Self:
        if self.pipeline is None:
            return super().given(control, adapter, scale=scale)
        other = copy(self)
        other._given = GivenImages.of(self.pipeline, self.image_sides, control, adapter, scale)
        return other

    @property
    def differentiated(self) -> list[nn.Module]:
        controlnet = getattr(self.pipeline, "controlnet", None)
        return [self.denoiser] if controlnet is None else [self.denoiser, controlnet]

    @torch.no_grad()
    def encode_prompts(self, texts: list[str], *, guidance: float | None = None, negative: str = "") -> Condition:
        condition = super().encode_prompts(texts, guidance=guidance, negative=negative)
        if self.pipeline is None:
            return condition
        if self._given is None:
            raise UserError(
                "this pipeline has a ControlNet or an IP-Adapter; give its images first, as given(control, adapter)"
            )
        return self._given.added_to(condition)

    def _encode(self, texts: list[str]) -> TextEncoding:
        ids = token_ids(self.parts["tokenizer"], texts).to(self.device)
        return TextEncoding(context_BKD=self.use("text_encoder")(ids).last_hidden_state)

    @classmethod
    def weigh_phrases(cls, tokenizers: Mapping[str, Any], prompts: Sequence[Phrases]) -> Tensor:
        tokenizer = tokenizers["tokenizer"]
        return phrase_weights(tokenizer, prompts, tokenizer.model_max_length)

    def schedule(self, steps: int) -> Schedule:
        """DDIM at the scheduler's own timesteps."""
        return ddim_schedule(self.parts["scheduler"], steps)

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """The noise or v, as the scheduler says; `timestep` is the scheduler's, 0 to 999."""
        return guided(lambda z, text: self._unet(z, timestep, text), latents, condition)

    def _unet(self, latents: Tensor, timestep: float, text: TextEncoding) -> Tensor:
        unet = self.use("unet")
        seen, added = latents.to(unet.dtype), self._added(text)
        inputs = (
            {"added_cond_kwargs": added} if self._given is None else self._given.inputs(seen, timestep, text, added)
        )
        predicted: Tensor = unet(seen, timestep, encoder_hidden_states=text.context_BKD, return_dict=False, **inputs)[0]
        return predicted.to(latents.dtype)

    def _added(self, _text: TextEncoding) -> dict[str, Tensor] | None:
        """What the UNet wants beside text and time: nothing here."""
        return None

    def _layers(self, *, joint: bool) -> list[AttentionLayer]:
        """Cross-attention modules (`attn2`) in the order down, mid, up."""
        order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
        found = [(name, module) for name, module in self.denoiser.named_modules() if name.endswith(".attn2")]
        found.sort(key=lambda item: order[item[0].split(".")[0]])
        return [
            AttentionLayer(
                name=name.removesuffix(".attn2"),
                heads=module.heads,
                sources=(module.to_q, module.to_k),
                read=partial(split_projections, module.heads),
            )
            for name, module in found
        ]
