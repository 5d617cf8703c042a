"""The UNet of the small world: 16x16x4 latents, cross-attention at 16x16 and 8x8, v-prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from l2s_core.miniworld.training.text import tokenize
from l2s_core.miniworld.world.captions import web_caption
from l2s_core.miniworld.world.scenes import COUNTS, Layout, render, sample_layout, to_unit
from l2s_core.miniworld.world.streams import Stream, scene_rng
from l2s_core.storage.files import atomic_path

DROP_SHARE = 0.1  # captions replaced by the empty one, for classifier-free guidance
ENCODE_BATCH = 64


def build(channels: tuple[int, ...], heads: int, text_width: int) -> UNet2DConditionModel:
    """Create the untrained UNet with a cross-attention block at every resolution."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        norm_num_groups=16,
        block_out_channels=channels,
        cross_attention_dim=text_width,
        attention_head_dim=heads,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
    )


def build_scheduler() -> DDIMScheduler:
    """Return Stable Diffusion's noise schedule with v-prediction (Salimans & Ho 2022)."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def layout_of(seed: int, index: int, counts: Sequence[float] = COUNTS) -> Layout:
    """Return training scene `index`; `counts` are the shares of scenes of one, two and three objects."""
    return sample_layout(scene_rng(seed, index, Stream.DENOISER_SCENES), counts=counts)


@torch.no_grad()
def encode_scenes(
    vae: AutoencoderKL, seed: int, count: int, path: Path, *, counts: Sequence[float] = COUNTS, device: str = "cpu"
) -> Tensor:
    """Return the scaled latents (N, 4, 16, 16), float16, of the training scenes; computed once, kept at `path`."""
    if path.exists():
        return load_file(path)["latents"]
    vae.to(device)
    parts = []
    for first in range(0, count, ENCODE_BATCH):
        images = np.stack([render(layout_of(seed, i, counts)) for i in range(first, min(first + ENCODE_BATCH, count))])
        mean = vae.encode(torch.from_numpy(to_unit(images)).to(device)).latent_dist.mean
        parts.append((mean * vae.config.scaling_factor).half().cpu())
    latents = torch.cat(parts)
    with atomic_path(path) as temporary:
        save_file({"latents": latents}, temporary)
    vae.to("cpu")
    return latents


@dataclass(kw_only=True)
class DenoiserLoss:
    """v-prediction loss over batches that are drawn from the step number alone.

    `counts` is as in `layout_of`, `chained` as in `web_caption`.
    """

    latents: Tensor
    tokenizer: CLIPTokenizer
    encoder: CLIPTextModel
    scheduler: DDIMScheduler
    counts: Sequence[float]
    chained: float
    seed: int
    batch: int
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.encoder = self.encoder.to(self.device).eval()
        self.alphas = self.scheduler.alphas_cumprod.to(self.device)
        self._model: nn.Module | None = None

    def __call__(self, model: nn.Module, step: int) -> Tensor:
        rng = scene_rng(self.seed, step, Stream.DENOISER_BATCHES)
        indices = rng.integers(0, len(self.latents), self.batch)
        captions = [
            ""
            if rng.random() < DROP_SHARE
            else web_caption(layout_of(self.seed, int(i), self.counts), rng, self.chained)
            for i in indices
        ]
        with torch.no_grad():
            context_BKD = self.encoder(tokenize(self.tokenizer, captions).to(self.device)).last_hidden_state
        x0 = self.latents[torch.from_numpy(indices)].float().to(self.device)
        noise = torch.randn_like(x0)
        # stratified timesteps: one from each of B equal slices
        t = ((torch.arange(self.batch) + torch.rand(self.batch)) / self.batch * len(self.alphas)).long().to(self.device)
        alpha = self.alphas[t].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - self.alphas[t]).sqrt().view(-1, 1, 1, 1)
        velocity = alpha * noise - sigma * x0
        inputs = (alpha * x0 + sigma * noise, t, context_BKD)
        if self._model is not model:
            self._model = model
            self._predict = graphed(Prediction(model), inputs)
        return nn.functional.mse_loss(self._predict(*inputs).float(), velocity)


class Prediction(nn.Module):
    """A UNet whose output is a tensor."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep_B: Tensor, context_BKD: Tensor) -> Tensor:
        return self.unet(latents, timestep_B, context_BKD, return_dict=False)[0]


def graphed(call: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """On a GPU, one CUDA graph for each direction of the pass, which otherwise waits for a thousand launches."""
    if not inputs[0].is_cuda:
        return call
    return cast("Callable[..., Tensor]", torch.cuda.make_graphed_callables(call, tuple(t.clone() for t in inputs)))
