"""The AutoencoderKL of the small world: 64x64x3 pixels to 16x16x4 latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from l2s_core.diffusion.inversion import psnr as image_psnr
from l2s_core.miniworld.world.scenes import render, sample_layout, to_unit
from l2s_core.miniworld.world.streams import Stream, scene_rng

KL_WEIGHT = 1e-5
EDGE_WEIGHT = 0.5
# Shares of training scenes of one, two and three objects; crowded, since sprites are the hard part.
PICTURED = (0.05, 0.45, 0.5)


def build(channels: tuple[int, ...], latent_channels: int) -> AutoencoderKL:
    """Create the untrained autoencoder; `channels` are the widths at 64, 32 and 16 px."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=16,
        mid_block_add_attention=False,
        sample_size=64,
        scaling_factor=1.0,
    )


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Training images, float32 (B, 3, 64, 64) in [-1, 1], a function of the step number alone.

    `counts` is as in `sample_layout`.
    """

    seed: int
    batch: int
    counts: tuple[float, ...] = PICTURED

    def __call__(self, step: int) -> np.ndarray:
        """Return the batch of a step."""
        numbers = range(step * self.batch, (step + 1) * self.batch)
        layouts = (sample_layout(scene_rng(self.seed, i, Stream.AUTOENCODER), counts=self.counts) for i in numbers)
        return to_unit(np.stack([render(layout) for layout in layouts]))


def batch(seed: int, step: int, size: int, counts: tuple[float, ...] = PICTURED) -> Tensor:
    """Return images (B, 3, 64, 64) in [-1, 1], see `Pictures`."""
    return torch.from_numpy(Pictures(seed=seed, batch=size, counts=counts)(step))


def loss(model: AutoencoderKL, images: Tensor) -> Tensor:
    """L1 + 4 MSE on pixels, L1 on horizontal and vertical differences, and a light KL term."""
    posterior = model.encode(images).latent_dist
    output = model.decode(posterior.sample()).sample.float()
    error = output - images
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    return error.abs().mean() + 4 * error.square().mean() + EDGE_WEIGHT * edges + KL_WEIGHT * kl


@torch.no_grad()
def set_scaling(model: AutoencoderKL, images: Tensor) -> float:
    """Set config.scaling_factor so that latents have unit deviation (Rombach et al. 2022, section D.1)."""
    factor = 1 / model.encode(images).latent_dist.mean.std().item()
    model.register_to_config(scaling_factor=factor)
    return factor


@torch.no_grad()
def reconstruct(model: AutoencoderKL, images: Tensor) -> np.ndarray:
    """Encode and decode images in [-1, 1]; returns uint8 (B, H, W, 3)."""
    return to_pixels(model.decode(model.encode(images).latent_dist.mean).sample).cpu().numpy()


def psnr(model: AutoencoderKL, images: Tensor) -> float:
    """Mean reconstruction PSNR in dB over images in [-1, 1]."""
    return float(image_psnr(torch.from_numpy(reconstruct(model, images)), to_pixels(images)).mean())


def to_pixels(images: Tensor) -> Tensor:
    """Map (B, 3, H, W) in [-1, 1] to uint8 (B, H, W, 3)."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
