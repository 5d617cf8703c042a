"""Stable Diffusion's family: a UNet with cross-attention to CLIP text tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from l2s_core.attention.capture import AttentionLayer
from l2s_core.backbones.base import Condition
from l2s_core.backbones.folder import fingerprint_of, load_component, resolve_folder
from l2s_core.errors import UserError
from l2s_core.prompts import Prompt
from l2s_core.sampling import Schedule
from l2s_core.tokens import phrase_weights

COMPONENTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


class UNetBackbone:
    """Adapter over diffusers' UNet2DConditionModel and its companions."""

    def __init__(self, *, unet, vae, text_encoder, tokenizer, scheduler, fingerprint: str, device: str = "cpu") -> None:
        self.unet = unet.to(device).eval().requires_grad_(False)
        self.vae = vae.to(device).eval().requires_grad_(False)
        self.text_encoder = text_encoder.to(device).eval().requires_grad_(False)
        self.tokenizer, self.scheduler = tokenizer, scheduler
        self.fingerprint, self.device = fingerprint, device
        side = unet.config.sample_size
        self.latent_shape = (unet.config.in_channels, side, side)

    @classmethod
    def from_pretrained(cls, model: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> UNetBackbone:
        """Load a folder in diffusers' layout; raises UserError when it is missing or of another family."""
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        folder = resolve_folder(model, COMPONENTS)
        classes = (UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTokenizer, DDIMScheduler)
        parts = {
            name: load_component(kind, folder, name, dtype=dtype) for name, kind in zip(COMPONENTS, classes, strict=True)
        }
        return cls(**parts, fingerprint=fingerprint_of(folder), device=device)

    @torch.no_grad()
    def encode_prompts(self, texts: list[str], *, guidance: float = 1.0) -> Condition:
        negative = self._encode([""] * len(texts)) if guidance != 1.0 else None
        return Condition(context_BKD=self._encode(texts), negative_BKD=negative, guidance=guidance)

    def _encode(self, texts: list[str]) -> Tensor:
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return self.text_encoder(tokens.input_ids.to(self.device)).last_hidden_state

    def phrase_weights(self, prompts: list[Prompt]) -> Tensor:
        return phrase_weights(self.tokenizer, prompts, self.tokenizer.model_max_length).to(self.device)

    @torch.no_grad()
    def encode_images(self, images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(images).to(self.device, self.vae.dtype).permute(0, 3, 1, 2) / 127.5 - 1
        return self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        pixels = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def schedule(self, steps: int) -> Schedule:
        """DDIM without added noise (Song et al. 2021, eq. 12), at the scheduler's own timesteps."""
        self.scheduler.set_timesteps(steps)
        timesteps = self.scheduler.timesteps.tolist()
        stride = self.scheduler.config.num_train_timesteps // steps
        alphas = self.scheduler.alphas_cumprod.double()
        keep, add = [], []
        for t in timesteps:
            before = t - stride
            alpha = float(alphas[t])
            alpha_before = float(alphas[before] if before >= 0 else self.scheduler.final_alpha_cumprod)
            k, a = _ddim(alpha, alpha_before, self.scheduler.config.prediction_type)
            keep.append(k)
            add.append(a)
        return Schedule(timesteps=tuple(timesteps), keep=tuple(keep), add=tuple(add))

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        if condition.guidance == 1.0:
            return self._unet(latents, timestep, condition.context_BKD)
        context = torch.cat([condition.negative_BKD, condition.context_BKD])
        negative, positive = self._unet(torch.cat([latents, latents]), timestep, context).chunk(2)
        return negative + condition.guidance * (positive - negative)

    def _unet(self, latents: Tensor, timestep: float, context: Tensor) -> Tensor:
        return self.unet(latents, timestep, encoder_hidden_states=context, return_dict=False)[0]

    def layers(self) -> list[AttentionLayer]:
        """Cross-attention modules (`attn2`) in the order down, mid, up."""
        order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
        found = [(name, module) for name, module in self.unet.named_modules() if name.endswith(".attn2")]
        found.sort(key=lambda item: order[item[0].split(".")[0]])
        return [
            AttentionLayer(name=name.removesuffix(".attn2"), heads=module.heads, query=module.to_q, key=module.to_k)
            for name, module in found
        ]


def _ddim(alpha: float, alpha_before: float, prediction_type: str) -> tuple[float, float]:
    """Coefficients (keep, add) of one DDIM step for the model's kind of prediction."""
    signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    signal_before, noise_before = alpha_before**0.5, (1 - alpha_before) ** 0.5
    if prediction_type == "epsilon":
        return signal_before / signal, noise_before - signal_before * noise / signal
    if prediction_type == "v_prediction":
        return signal_before * signal + noise_before * noise, noise_before * signal - signal_before * noise
    raise UserError(f"prediction type {prediction_type!r} is not supported; allowed: epsilon, v_prediction")
