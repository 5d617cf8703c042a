"""Train the shipped models from a seed: text encoder, autoencoder, denoiser, judge, then the two folders.

Usage: ``python -m l2s_core.miniworld.pretrain WORK_FOLDER`` (about two hours on 2 cores). Killed at any
moment, the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from l2s_core.files import make_folder, write_json
from l2s_core.miniworld import autoencoder, denoiser, judge, text
from l2s_core.miniworld.trainer import TrainPlan, best_dtype, fit

SEED = 0
SCENES = 48_000  # scenes the denoiser is trained on, each met about eight times under new captions
# AutoencoderKL, UNet and SegFormer widths; batches; plans: what the shipped weights were made with
TEXT = TrainPlan(steps=800, lr=2e-3, ema=0.99, warmup=50)
AUTOENCODER = TrainPlan(steps=2000, lr=2e-3, ema=0.995, weight_decay=0.0)
DENOISER = TrainPlan(steps=6000, lr=1e-3, warmup=200)
JUDGE = TrainPlan(steps=1500, lr=1.5e-3, ema=0.99)

logger = logging.getLogger(__name__)


def _train(name: str, work: Path, model: nn.Module, loss: Callable[[nn.Module, int], Tensor], plan: TrainPlan, device: str) -> None:
    def log(step: int, values: dict[str, float]) -> None:
        left = (plan.steps - step) * values["seconds_per_step"] / 60
        logger.info("%s %d/%d loss %.4f, %.0f min left", name, step, plan.steps, values["loss"], left)

    fit(model, loss, plan, checkpoint=work / f"{name}.safetensors", device=device, dtype=best_dtype(device), log=log, seed=SEED)


def pretrain(work: Path, out: Path, *, device: str = "cpu") -> None:
    """Train everything, keeping checkpoints in `work`, and write `out`/mini-sd and `out`/mini-seg."""
    make_folder(work)
    torch.manual_seed(SEED)
    tokenizer = text.build_tokenizer(SEED)
    recall = text.PrefixRecall(text.build_encoder(tokenizer, width=128, layers=3, heads=4))
    _train("text", work, recall, lambda m, s: text.loss(m, text.batch(tokenizer, SEED, s, 64).to(device)), TEXT, device)
    vae = autoencoder.build((32, 64, 64), 4)
    _train("vae", work, vae, lambda m, s: autoencoder.loss(m, autoencoder.batch(SEED, s, 24).to(device)), AUTOENCODER, device)
    held_out = autoencoder.batch(SEED + 99, 0, 64)
    autoencoder.set_scaling(vae, held_out)
    logger.info("autoencoder: %.1f dB on held-out scenes", autoencoder.psnr(vae, held_out))
    latents = denoiser.encode_scenes(vae, SEED, SCENES, work / "latents.safetensors", device=device)
    scheduler = denoiser.build_scheduler()
    unet = denoiser.build((64, 128), heads=4, text_width=128)
    loss = denoiser.DenoiserLoss(latents, tokenizer, recall.encoder, scheduler, seed=SEED, batch=64, device=device)
    _train("unet", work, unet, loss, DENOISER, device)
    segmenter = judge.build((32, 64, 128), depth=2)
    _train("judge", work, segmenter, lambda m, s: judge.loss(m, *(x.to(device) for x in judge.batch(SEED, s, 32))), JUDGE, device)
    _package(out, unet, vae, recall.encoder.to("cpu"), tokenizer, scheduler)
    segmenter.half().save_pretrained(out / "mini-seg")


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


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    target = Path(sys.argv[1])
    pretrain(target, target / "models", device="cuda" if torch.cuda.is_available() else "cpu")
