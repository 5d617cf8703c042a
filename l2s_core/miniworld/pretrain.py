"""Train the shipped models from a seed: text encoder, autoencoder, denoiser, judge, then the two folders.

About two hours on 2 cores. Killed at any moment, the same call goes on from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from l2s_core.backbones.unet import UNetBackbone
from l2s_core.config import CONFIG_FOLDER, Section, read_yaml, validate
from l2s_core.data.scenes import stable_fraction
from l2s_core.files import make_folder, write_json
from l2s_core.miniworld import autoencoder, denoiser, judge, text
from l2s_core.miniworld.sprites import OBJECTS
from l2s_core.miniworld.trainer import TrainPlan, best_dtype, fit
from l2s_core.prompts import with_article
from l2s_core.report.grids import save_png, tile
from l2s_core.sampling import initial_noise, sample

GRID_IMAGES = 32
Observer = Callable[[str, int, dict[str, float]], None]
"""(model, step, values) -> None, called as training goes on."""


class PretrainConfig(Section):
    """Seed, number of scenes, and the plan of each model."""

    seed: int
    scenes: int
    text: TrainPlan
    autoencoder: TrainPlan
    denoiser: TrainPlan
    judge: TrainPlan


def load_pretrain_config(path: Path = CONFIG_FOLDER / "pretrain" / "miniworld.yaml") -> PretrainConfig:
    """Read a configuration; raises UserError, one line."""
    return validate(PretrainConfig, read_yaml(path), str(path))


def pretrain(config: PretrainConfig, work: Path, *, device: str = "cpu", observe: Observer = lambda *_: None) -> Path:
    """Train everything, keeping checkpoints and sample grids in `work`; return the folder of the models."""
    make_folder(work)
    seed, out = config.seed, work / "models"
    torch.manual_seed(seed)

    def train(name: str, model: nn.Module, loss: Callable[[nn.Module, int], Tensor], plan: TrainPlan, draw=None) -> None:
        def on_checkpoint(step: int) -> None:
            if draw is not None:
                save_png(tile(draw(model)), work / "grids" / f"{name}-{step:06d}.png")

        fit(
            model, loss, plan, checkpoint=work / f"{name}.safetensors", device=device, dtype=best_dtype(device), seed=seed,
            log=lambda step, values: observe(name, step, values), on_checkpoint=on_checkpoint,
        )  # fmt: skip

    tokenizer = text.build_tokenizer(seed)
    recall = text.PrefixRecall(text.build_encoder(tokenizer, width=128, layers=3, heads=4))
    train("text", recall, lambda m, s: text.loss(m, text.batch(tokenizer, seed, s, config.text.batch).to(device)), config.text)
    vae, held_out = autoencoder.build((32, 64, 64), 4), autoencoder.batch(seed + 99, 0, 64)
    vae_loss = lambda m, s: autoencoder.loss(m, autoencoder.batch(seed, s, config.autoencoder.batch).to(device))  # noqa: E731
    train("autoencoder", vae, vae_loss, config.autoencoder, draw=lambda m: autoencoder.reconstruct(m, held_out[:GRID_IMAGES].to(device)))
    autoencoder.set_scaling(vae, held_out)
    observe("autoencoder", config.autoencoder.steps, {"psnr": autoencoder.psnr(vae, held_out)})
    latents = denoiser.encode_scenes(vae, seed, config.scenes, work / "latents.safetensors", device=device)
    scheduler, unet = denoiser.build_scheduler(), denoiser.build((64, 128), heads=4, text_width=128)
    loss = denoiser.DenoiserLoss(latents, tokenizer, recall.encoder, scheduler, seed=seed, batch=config.denoiser.batch, device=device)

    def draw_samples(model: nn.Module) -> np.ndarray:
        parts = {"unet": model, "vae": vae, "text_encoder": recall.encoder, "tokenizer": tokenizer, "scheduler": scheduler}
        return _sample_grid(UNetBackbone(**parts, fingerprint="unfinished", device=device))

    train("denoiser", unet, loss, config.denoiser, draw=draw_samples)
    segmenter = judge.build((32, 64, 128), depth=2)
    judge_loss = lambda m, s: judge.loss(m, *(x.to(device) for x in judge.batch(seed, s, config.judge.batch)))  # noqa: E731
    train("judge", segmenter, judge_loss, config.judge)
    _package(out, unet, vae.to("cpu"), recall.encoder.to("cpu"), tokenizer, scheduler)
    segmenter.half().save_pretrained(out / "mini-seg")
    return out


def _sample_grid(backbone: UNetBackbone) -> np.ndarray:
    """Sample two-object prompts, the same at every checkpoint."""
    prompts = []
    for i in range(GRID_IMAGES):
        a, b = sorted(OBJECTS, key=lambda name: stable_fraction("grid", i, name))[:2]
        prompts.append(f"a photo of {with_article(a)} and {with_article(b)}")
    condition = backbone.encode_prompts(prompts, guidance=5.0)
    noise = initial_noise(list(range(GRID_IMAGES)), backbone.latent_shape, backbone.device)
    return backbone.decode(sample(backbone, noise, condition, backbone.schedule(20)))


def _package(out: Path, unet, vae, encoder, tokenizer: CLIPTokenizer, scheduler) -> None:
    """Write mini-sd in diffusers' layout; the text encoder stays float32, since transformers keeps the stored type."""
    folder = out / "mini-sd"
    parts = {"unet": unet.half(), "vae": vae.half(), "text_encoder": encoder, "tokenizer": tokenizer, "scheduler": scheduler}
    index: dict[str, object] = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
    index |= {name: [None, None] for name in ("safety_checker", "feature_extractor", "image_encoder")}
    write_json(folder / "model_index.json", index)
