"""Train mini-sd and mini-seg from a seed: text encoder, autoencoder, denoiser, judge. About two hours on 2 cores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from pydantic import Field
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from l2s_core.backbones.folder import save_pipeline
from l2s_core.backbones.model import Placement
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.config import Section
from l2s_core.miniworld.training import autoencoder, denoiser, judge, text
from l2s_core.miniworld.training.rounds import SceneRound
from l2s_core.miniworld.training.trainer import TrainPlan
from l2s_core.miniworld.training.workshop import GRID_IMAGES, Workshop, sample_grid
from l2s_core.miniworld.world.tokenizers import clip_tokenizer


class Round(SceneRound):
    """The denoiser trained on rendered scenes, from what the round before ended with."""

    denoiser: TrainPlan


class SDPretrainConfig(Section):
    """Seed, the plan of each model, and the rounds of the denoiser."""

    model: Literal["mini-sd"]
    seed: int
    text: TrainPlan
    autoencoder: TrainPlan
    rounds: tuple[Round, ...] = Field(min_length=1)
    judge: TrainPlan


def pretrain_sd(config: SDPretrainConfig, shop: Workshop) -> Path:
    """Train everything; return the folder of both models."""
    torch.manual_seed(config.seed)
    tokenizer = clip_tokenizer(config.seed)
    encoder = _train_text(config, shop, tokenizer)
    vae = _train_autoencoder(config, shop)
    scheduler = denoiser.build_scheduler()
    unet = denoiser.build((64, 128), heads=4, text_width=128)
    parts = {"unet": unet, "vae": vae, "text_encoder": encoder, "tokenizer": tokenizer, "scheduler": scheduler}
    _train_denoiser(config, shop, parts)
    segmenter = judge.train(shop, config.judge)
    out = shop.work / "models"
    # the text encoder stays float32, since transformers keeps the stored type
    parts |= {"unet": unet.half(), "vae": vae.to("cpu").half(), "text_encoder": encoder.to("cpu")}
    absent = ("safety_checker", "feature_extractor", "image_encoder")
    save_pipeline(out / "mini-sd", "StableDiffusionPipeline", parts, absent, requires_safety_checker=False)
    segmenter.half().save_pretrained(out / "mini-seg")
    return out


def _train_text(config: SDPretrainConfig, shop: Workshop, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    recall = text.PrefixRecall(text.build_encoder(tokenizer, width=128, layers=3, heads=4))

    def text_loss(_: nn.Module, step: int) -> Tensor:
        return text.loss(recall, text.batch(tokenizer, config.seed, step, config.text.batch).to(shop.device))

    shop.train("text", recall, text_loss, config.text)
    return recall.encoder


def _train_autoencoder(config: SDPretrainConfig, shop: Workshop) -> AutoencoderKL:
    plan = config.autoencoder
    vae = autoencoder.build((32, 64, 64), 4)
    held_out = autoencoder.batch(config.seed + 99, 0, 64)

    def vae_loss(model: nn.Module, step: int) -> Tensor:
        return autoencoder.loss(model, autoencoder.batch(config.seed, step, plan.batch).to(shop.device))

    def draw(model: nn.Module) -> np.ndarray:
        return autoencoder.reconstruct(model, held_out[:GRID_IMAGES].to(shop.device))

    shop.train("autoencoder", vae, vae_loss, plan, draw=draw)
    autoencoder.set_scaling(vae, held_out)
    shop.observe("autoencoder", plan.steps, {"psnr": autoencoder.psnr(vae, held_out)})
    return vae


def _train_denoiser(config: SDPretrainConfig, shop: Workshop, parts: Mapping[str, Any]) -> None:
    """Train the denoiser of a model's parts in place, round by round."""

    def draw(model: nn.Module) -> np.ndarray:
        placement = Placement(device=shop.device)
        backbone = UNetBackbone({**parts, "unet": model}, fingerprint="unfinished", placement=placement)
        return sample_grid(backbone, steps=20, guidance=5.0)

    for number, plan in enumerate(config.rounds, start=1):
        path = shop.work / f"latents-{number}.safetensors"
        latents = denoiser.encode_scenes(
            parts["vae"], config.seed, plan.scenes, path, counts=plan.counts, device=shop.device
        )
        loss = denoiser.DenoiserLoss(
            latents=latents,
            tokenizer=parts["tokenizer"],
            encoder=parts["text_encoder"],
            scheduler=parts["scheduler"],
            counts=plan.counts,
            chained=plan.chained,
            seed=config.seed,
            batch=plan.denoiser.batch,
            device=shop.device,
        )
        shop.train(f"denoiser-{number}", parts["unet"], loss, plan.denoiser, draw=draw)
