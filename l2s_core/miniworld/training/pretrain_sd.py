"""Train mini-sd and mini-seg from a seed: text encoder, autoencoder, denoiser, judge. About two hours on 2 cores."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

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
    seed = config.seed
    device = shop.device
    out = shop.work / "models"
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer(seed)
    recall = text.PrefixRecall(text.build_encoder(tokenizer, width=128, layers=3, heads=4))

    def text_loss(_: nn.Module, step: int) -> Tensor:
        return text.loss(recall, text.batch(tokenizer, seed, step, config.text.batch).to(device))

    shop.train("text", recall, text_loss, config.text)
    vae = autoencoder.build((32, 64, 64), 4)
    held_out = autoencoder.batch(seed + 99, 0, 64)

    def vae_loss(model: nn.Module, step: int) -> Tensor:
        return autoencoder.loss(model, autoencoder.batch(seed, step, config.autoencoder.batch).to(device))

    shop.train(
        "autoencoder",
        vae,
        vae_loss,
        config.autoencoder,
        draw=lambda m: autoencoder.reconstruct(m, held_out[:GRID_IMAGES].to(device)),
    )
    autoencoder.set_scaling(vae, held_out)
    shop.observe("autoencoder", config.autoencoder.steps, {"psnr": autoencoder.psnr(vae, held_out)})
    scheduler = denoiser.build_scheduler()
    unet = denoiser.build((64, 128), heads=4, text_width=128)
    parts = {"unet": unet, "vae": vae, "text_encoder": recall.encoder, "tokenizer": tokenizer, "scheduler": scheduler}

    def draw_samples(model: nn.Module) -> np.ndarray:
        return sample_grid(
            UNetBackbone({**parts, "unet": model}, fingerprint="unfinished", placement=Placement(device=device)),
            steps=20,
            guidance=5.0,
        )

    for number, plan in enumerate(config.rounds, start=1):
        path = shop.work / f"latents-{number}.safetensors"
        latents = denoiser.encode_scenes(vae, seed, plan.scenes, path, counts=plan.counts, device=device)
        loss = denoiser.DenoiserLoss(
            latents=latents,
            tokenizer=tokenizer,
            encoder=recall.encoder,
            scheduler=scheduler,
            counts=plan.counts,
            chained=plan.chained,
            seed=seed,
            batch=plan.denoiser.batch,
            device=device,
        )
        shop.train(f"denoiser-{number}", unet, loss, plan.denoiser, draw=draw_samples)
    segmenter = judge.train(shop, config.judge)
    # the text encoder stays float32, since transformers keeps the stored type
    parts |= {"unet": unet.half(), "vae": vae.to("cpu").half(), "text_encoder": recall.encoder.to("cpu")}
    absent = ("safety_checker", "feature_extractor", "image_encoder")
    save_pipeline(out / "mini-sd", "StableDiffusionPipeline", parts, absent, requires_safety_checker=False)
    segmenter.half().save_pretrained(out / "mini-seg")
    return out
