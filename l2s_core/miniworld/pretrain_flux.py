"""Train mini-flux from a seed, on the autoencoder and the CLIP encoder of mini-sd: T5 encoder, flow model, reflow."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from l2s_core.backbones.flux import FluxBackbone
from l2s_core.backbones.folder import SHIPPED, save_pipeline
from l2s_core.backbones.model import Placement
from l2s_core.config import Section
from l2s_core.miniworld import denoiser, flow, reflow, t5
from l2s_core.miniworld.scenes import SIDE
from l2s_core.miniworld.trainer import TrainPlan, best_dtype
from l2s_core.miniworld.workshop import Workshop, sample_grid


class FluxPretrainConfig(Section):
    """Seed, sizes and the plan of each model; `pairs` are drawn in `pair_steps` steps at `pair_guidance`."""

    model: Literal["mini-flux"]
    seed: int
    scenes: int
    heads: int = 6
    head_width: int = 32
    double: int = 2
    single: int = 4
    t5: TrainPlan
    flow: TrainPlan
    pairs: int = Field(ge=1)
    pair_steps: int = Field(ge=1)
    pair_guidance: float = Field(ge=1)
    reflow: TrainPlan


def pretrain_flux(config: FluxPretrainConfig, shop: Workshop) -> Path:
    """Train everything; return the folder that holds mini-flux."""
    from diffusers import AutoencoderKL

    seed, device, out = config.seed, shop.device, shop.work / "models"
    base = out / "mini-sd" if (out / "mini-sd" / "model_index.json").is_file() else SHIPPED / "mini-sd"
    vae = AutoencoderKL.from_pretrained(base / "vae")
    vae.register_to_config(shift_factor=0.0)  # FluxPipeline wants one; these latents have mean zero as they are
    clip, clip_tokenizer = CLIPTextModel.from_pretrained(base / "text_encoder"), CLIPTokenizer.from_pretrained(base / "tokenizer")
    width = clip.config.hidden_size
    tokenizer = t5.build_tokenizer(seed)
    recall = t5.ContextRecall(t5.build_encoder(tokenizer, width=width, layers=2, heads=4))
    shop.train("t5", recall, lambda m, s: t5.loss(m, t5.batch(tokenizer, seed, s, config.t5.batch).to(device)), config.t5)
    latents = denoiser.encode_scenes(vae, seed, config.scenes, shop.work / "latents.safetensors", device=device)
    encoders = flow.Encoders(clip, clip_tokenizer, recall.encoder, tokenizer, device)
    first = flow.build(heads=config.heads, head_width=config.head_width, double=config.double, single=config.single, text_width=width)
    parts = {
        "transformer": first, "vae": vae, "text_encoder": clip, "tokenizer": clip_tokenizer, "text_encoder_2": recall.encoder,
        "tokenizer_2": tokenizer, "scheduler": flow.build_scheduler(),
    }  # fmt: skip

    def backbone(model: nn.Module) -> FluxBackbone:
        return FluxBackbone({**parts, "transformer": model}, fingerprint="unfinished", size=SIDE, placement=Placement(device=device))

    def grid(steps: int, guidance: float):
        def draw(model: nn.Module) -> np.ndarray:
            return sample_grid(backbone(model), steps=steps, guidance=guidance)

        return draw

    loss = flow.FlowLoss(latents, encoders, seed=seed, batch=config.flow.batch)
    shop.train("flow", first, loss, config.flow, draw=grid(config.pair_steps, config.pair_guidance))
    pairs = reflow.draw_pairs(
        backbone(first), seed, config.pairs, shop.work / "pairs", steps=config.pair_steps, guidance=config.pair_guidance,
        dtype=best_dtype(device), progress=lambda done: shop.observe("pairs", done, {}),
    )  # fmt: skip
    second = copy.deepcopy(first).requires_grad_(True)
    shop.train("reflow", second, reflow.ReflowLoss(pairs, encoders, seed=seed, batch=config.reflow.batch), config.reflow, draw=grid(4, 1.0))
    # the text encoders stay float32, since transformers keeps the stored type
    parts |= {"transformer": second.half()}
    for name in ("vae", "text_encoder", "text_encoder_2"):
        parts[name].to("cpu")
    vae.half()
    save_pipeline(out / "mini-flux", "FluxPipeline", parts, absent=("image_encoder", "feature_extractor"))
    return out
