"""Train mini-sd and mini-seg from a seed: text encoder, autoencoder, denoiser, judge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from l2s_core.backbones.folder import resolve_folder, save_pipeline
from l2s_core.backbones.model import Placement
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.config import Section
from l2s_core.miniworld.training import autoencoder, denoiser, judge, text
from l2s_core.miniworld.training.rounds import SceneRound
from l2s_core.miniworld.training.trainer import TrainPlan
from l2s_core.miniworld.training.workshop import GRID_IMAGES, MODELS, Workshop, sample_grid
from l2s_core.miniworld.world.captions import LANGUAGE_COUNTS
from l2s_core.miniworld.world.tokenizers import CLIP_LENGTH, clip_tokenizer


class Round(SceneRound):
    """The denoiser trained on rendered scenes, from what the round before ended with.

    `noisy` is as in `DenoiserLoss`.
    """

    noisy: float = Field(default=1.0, ge=1)
    denoiser: TrainPlan


class SDPretrainConfig(Section):
    """Seed, the plan of each model, and the rounds of the denoiser.

    With `begin`, a shipped name or a folder in diffusers' layout, all goes on from that model instead of from nothing,
    and a model without a plan stays as it is there; the judge goes on from `begin_judge`. With `after` all goes on from
    the models of another training, which comes first. `window` is the text encoder's, in tokens, `language` the shares
    of its sentences of one, two, three … objects and `only_a` as in `language_caption`, `pictured` those of the
    autoencoder's scenes, and `judged` those of the judge's.
    """

    model: Literal["mini-sd"]
    seed: int
    after: Predecessor | None = None
    begin: str | None = None
    begin_judge: str | None = None
    window: int = Field(default=CLIP_LENGTH, ge=CLIP_LENGTH)
    language: tuple[float, ...] = LANGUAGE_COUNTS
    only_a: float = Field(default=0.0, ge=0, le=1)
    text: TrainPlan | None = None
    pictured: tuple[float, ...] = autoencoder.PICTURED
    autoencoder: TrainPlan | None = None
    rounds: tuple[Round, ...] = Field(min_length=1)
    judged: tuple[float, ...] = judge.JUDGE_COUNTS
    judge: TrainPlan | None = None

    @model_validator(mode="after")
    def _has_a_beginning(self) -> SDPretrainConfig:
        missing = [name for name in ("text", "autoencoder", "judge") if getattr(self, name) is None]
        if self.begin is None and self.after is None and missing:
            raise ValueError(
                f"{missing[0]} has no plan and there is no model to take it from; "
                "give its plan, or name a model in begin, or a training in after"
            )
        if self.after is not None and (self.begin or self.begin_judge):
            raise ValueError("after and begin both say what training goes on from; give one of them")
        return self


class Predecessor(Section):
    """A training of mini-sd that comes before another one, in a folder of its `name`, and whose models that needs."""

    name: str
    config: SDPretrainConfig


def pretrain_sd(config: SDPretrainConfig, shop: Workshop, after: Path | None = None) -> Path:
    """Train everything; return the folder of the models. `after` is that of the training in `config.after`."""
    out = shop.work / MODELS
    begin, begin_judge = config.begin, config.begin_judge
    if after is not None:
        begin, begin_judge = str(after / "mini-sd"), str(after / "mini-seg")
    parts = _begun(config, begin) if begin else {}
    parts |= _text(config, shop, parts)
    parts |= _autoencoder(config, shop, parts)
    torch.manual_seed(config.seed)
    unet = parts.get("unet") or denoiser.build((64, 128), heads=4, text_width=128)
    parts |= {"unet": unet, "scheduler": denoiser.build_scheduler()}
    _train_denoiser(config, shop, parts)
    if config.judge is not None:
        begun = judge.begun(begin_judge) if begin_judge else None
        judge.train(shop, config.judge, config.judged, begun).half().save_pretrained(out / "mini-seg")
    # the text encoder stays float32, since transformers keeps the stored type
    parts |= {
        "unet": unet.half(),
        "vae": parts["vae"].to("cpu").half(),
        "text_encoder": parts["text_encoder"].to("cpu"),
    }
    absent = ("safety_checker", "feature_extractor", "image_encoder")
    save_pipeline(out / "mini-sd", "StableDiffusionPipeline", parts, absent, requires_safety_checker=False)
    return out


def _begun(config: SDPretrainConfig, model: str) -> dict[str, Any]:
    """Return the parts of the model that training goes on from, in float32, its text window as wide as asked."""
    components = UNetBackbone.COMPONENTS
    folder = resolve_folder(model, components)
    parts = {
        name: components[name].kind.from_pretrained(folder / name)
        for name in ("tokenizer", "text_encoder", "vae", "unet")
    }
    if parts["tokenizer"].model_max_length < config.window:
        parts["text_encoder"] = text.widened(parts["text_encoder"], parts["tokenizer"], config.window)
    return {
        name: part.float().requires_grad_(True) if isinstance(part, nn.Module) else part for name, part in parts.items()
    }


def _text(config: SDPretrainConfig, shop: Workshop, parts: dict[str, Any]) -> dict[str, Any]:
    """Train the text encoder, if it has a plan; return it with its tokenizer."""
    plan = config.text
    torch.manual_seed(config.seed)  # whatever was trained, or was found trained, before
    tokenizer = parts.get("tokenizer") or clip_tokenizer(config.seed, length=config.window)
    encoder = parts.get("text_encoder") or text.build_encoder(tokenizer, width=128, layers=3, heads=4)
    if plan is not None:
        recall = text.PrefixRecall(encoder)
        size = plan.batch

        def loss(_: nn.Module, step: int) -> Tensor:
            ids_BK = text.batch(tokenizer, config.seed, step, size, config.language, config.only_a)
            return text.loss(recall, ids_BK.to(shop.device))

        shop.train("text", recall, loss, plan)
    return {"tokenizer": tokenizer, "text_encoder": encoder}


def _autoencoder(config: SDPretrainConfig, shop: Workshop, parts: dict[str, Any]) -> dict[str, Any]:
    """Train the autoencoder, if it has a plan; return it."""
    plan = config.autoencoder
    torch.manual_seed(config.seed)
    vae = parts.get("vae") or autoencoder.build((32, 64, 64), 4)
    if plan is not None:
        held_out = autoencoder.batch(config.seed + 99, 0, 64, config.pictured)
        scenes = autoencoder.Pictures(seed=config.seed, batch=plan.batch, counts=config.pictured)
        pictures = shop.ahead(scenes, plan.steps)

        def loss(model: nn.Module, step: int) -> Tensor:
            return autoencoder.loss(model, torch.from_numpy(pictures(step)).to(shop.device))

        shop.train(
            "autoencoder",
            vae,
            loss,
            plan,
            draw=lambda m: autoencoder.reconstruct(m, held_out[:GRID_IMAGES].to(shop.device)),
        )
        autoencoder.set_scaling(vae, held_out)
        shop.observe("autoencoder", plan.steps, {"psnr": autoencoder.psnr(vae, held_out)})
    return {"vae": vae}


def _train_denoiser(config: SDPretrainConfig, shop: Workshop, parts: Mapping[str, Any]) -> None:
    """Train the denoiser of a model's parts in place, round by round."""
    placement = Placement(device=shop.device)

    def draw(model: nn.Module) -> np.ndarray:
        backbone = UNetBackbone({**parts, "unet": model}, fingerprint="unfinished", placement=placement)
        return sample_grid(backbone, steps=20, guidance=5.0)

    for number, plan in enumerate(config.rounds, start=1):
        path = shop.work / f"latents-{number}.safetensors"
        latents = denoiser.encode_scenes(
            parts["vae"], config.seed, plan.scenes, path, counts=plan.counts, device=shop.device, workers=shop.workers
        )
        captions = denoiser.SceneCaptions(
            seed=config.seed,
            batch=plan.denoiser.batch,
            scenes=plan.scenes,
            counts=plan.counts,
            style=plan,
            tokenizers=(parts["tokenizer"],),
        )
        loss = denoiser.DenoiserLoss(
            latents=latents,
            captions=shop.ahead(captions, plan.denoiser.steps),
            encoder=parts["text_encoder"],
            scheduler=parts["scheduler"],
            noisy=plan.noisy,
            decisive=plan.decisive,
            bfloat16=plan.denoiser.bfloat16,
            device=shop.device,
        )
        shop.train(f"denoiser-{number}", parts["unet"], loss, plan.denoiser, draw=draw)
