"""The rectified-flow denoiser of the small world: a FLUX transformer trained by flow matching on scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from l2s_core.backbones.flux import image_ids, pack
from l2s_core.diffusion.condition import TextEncoding
from l2s_core.miniworld.training import t5, text
from l2s_core.miniworld.training.denoiser import SceneBatch, products_in_bfloat16, with_decisive


def build(*, heads: int, head_width: int, double: int, single: int, text_width: int) -> FluxTransformer2DModel:
    """Create the untrained transformer for 16x16x4 latents packed to 64 tokens of 16 channels."""
    row = 2 * round(0.2 * head_width)  # rotary widths: what is left goes to the unused first axis
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=head_width,
        num_attention_heads=heads,
        joint_attention_dim=text_width,
        pooled_projection_dim=text_width,
        guidance_embeds=False,
        axes_dims_rope=(head_width - 2 * row, row, row),
    )


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Return FLUX.1-dev's schedule: flow-match Euler with a shift that grows with the number of tokens."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


class Encoders:
    """The two frozen text encoders."""

    def __init__(
        self,
        clip: CLIPTextModel,
        clip_tokenizer: CLIPTokenizer,
        t5_encoder: T5EncoderModel,
        t5_tokenizer: T5Tokenizer,
        device: str,
    ) -> None:
        self.clip = clip.to(device).eval()
        self.t5 = t5_encoder.to(device).eval()
        self.clip_tokenizer = clip_tokenizer
        self.t5_tokenizer = t5_tokenizer
        self.device = device

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> TextEncoding:
        """T5's vectors as the context, CLIP's last one as the pooled vector."""
        return self.of_tokens(t5.tokenize(self.t5_tokenizer, captions), text.tokenize(self.clip_tokenizer, captions))

    @torch.no_grad()
    def of_tokens(self, t5_ids_BK: Tensor, clip_ids_BK: Tensor) -> TextEncoding:
        """The same of what the two tokenizers return."""
        context = self.t5(t5_ids_BK.to(self.device)).last_hidden_state
        return TextEncoding(context_BKD=context, pooled_BD=self.clip(clip_ids_BK.to(self.device)).pooler_output)


@dataclass(frozen=True, kw_only=True)
class SceneBatches:
    """Batches of scenes and captions, a function of the step number alone.

    `captions` is as `SceneCaptions`, of T5's tokenizer and CLIP's.
    """

    latents: Tensor
    encoders: Encoders
    captions: Callable[[int], SceneBatch]

    def __call__(self, step: int) -> tuple[Tensor, TextEncoding]:
        """Return latents (B, C, h, w) and the text of each."""
        indices, ids = self.captions(step)
        t5_ids_BK, clip_ids_BK = map(torch.from_numpy, ids)
        latents = self.latents[torch.from_numpy(indices)].float()
        return latents.to(self.encoders.device), self.encoders.of_tokens(t5_ids_BK, clip_ids_BK)


def flow_loss(
    batches: SceneBatches,
    model: nn.Module,
    step: int,
    *,
    decisive: tuple[float, float, float] | None = None,
    bfloat16: bool = False,
) -> Tensor:
    """Flow-matching loss (Lipman et al. 2023; Liu et al. 2023) on the batch of a step.

    The path is z = (1 - sigma) x0 + sigma noise, the model predicts noise - x0; sigma is logit-normal
    (Esser et al. 2024, section 3.1), stratified over the batch. `decisive` is as in `SceneRound`, `bfloat16` as in
    `DenoiserLoss`.
    """
    x0, text = batches(step)
    sigma_B = with_decisive(
        stratified(len(x0)), decisive, lambda u: torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)).sigmoid()
    ).to(x0)
    with products_in_bfloat16(x0.device.type, asked=bfloat16):
        return velocity_loss(model, x0, torch.randn_like(x0), sigma_B, text)


def stratified(batch: int) -> Tensor:
    """Return one uniform number from each of `batch` equal slices of [0, 1]."""
    return (torch.arange(batch) + torch.rand(batch)) / batch


def velocity(model: nn.Module, z_BPC: Tensor, sigma_B: Tensor, text: TextEncoding) -> Tensor:
    """Return the velocity (B, P, C), float32, that the model predicts at packed latents (B, P, C)."""
    side = round(z_BPC.shape[1] ** 0.5)
    output = model(
        hidden_states=z_BPC,
        encoder_hidden_states=text.context_BKD,
        pooled_projections=text.pooled_BD,
        timestep=sigma_B,
        img_ids=image_ids(side, side).to(z_BPC),
        txt_ids=z_BPC.new_zeros(text.context_BKD.shape[1], 3),
        return_dict=False,
    )[0]
    return output.float()


def velocity_loss(model: nn.Module, x0_BCHW: Tensor, noise_BCHW: Tensor, sigma_B: Tensor, text: TextEncoding) -> Tensor:
    """Mean squared error of the velocity predicted at (1 - sigma) x0 + sigma noise."""
    x0_BPC = pack(x0_BCHW)
    noise_BPC = pack(noise_BCHW)
    z_BPC = torch.lerp(x0_BPC, noise_BPC, sigma_B.view(-1, 1, 1))
    return nn.functional.mse_loss(velocity(model, z_BPC, sigma_B, text), noise_BPC - x0_BPC)
