"""Train mini-flux from a seed, on the autoencoder and the CLIP encoder of mini-sd: T5 encoder, then rounds of flow model and reflow."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from l2s_core.backbones.flux import FluxBackbone
from l2s_core.backbones.folder import SHIPPED, save_pipeline
from l2s_core.backbones.model import Placement
from l2s_core.config import Section
from l2s_core.evaluation.detectors import Judge
from l2s_core.evaluation.judges import load_judge
from l2s_core.files import atomic_path
from l2s_core.miniworld import denoiser, flow, judge, reflow, t5
from l2s_core.miniworld.scenes import COUNTS, SIDE
from l2s_core.miniworld.trainer import TrainPlan, training_dtype
from l2s_core.miniworld.workshop import Draw, Workshop, sample_grid


class Round(Section):
    """A flow model trained on rendered scenes, from the model of the round before, and its reflow.

    `counts` are the shares of scenes of one, two and three objects; `pairs` are drawn in `pair_steps` steps at `pair_guidance`;
    with `faithful`, those whose image does not show what its caption names are left out.
    """

    scenes: int = Field(ge=1)
    counts: tuple[float, ...] = COUNTS
    flow: TrainPlan
    pairs: int = Field(ge=1)
    pair_steps: int = Field(ge=1)
    pair_guidance: float = Field(ge=1)
    faithful: bool = False
    reflow: TrainPlan


class FluxPretrainConfig(Section):
    """Seed, sizes, the plan of each model and the rounds; `critic` is the segmenter that looks at the pairs, never the judge itself."""

    model: Literal["mini-flux"]
    seed: int
    heads: int = 6
    head_width: int = 32
    double: int = 2
    single: int = 4
    t5: TrainPlan
    critic: TrainPlan
    rounds: tuple[Round, ...] = Field(min_length=1)


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
    encoders = flow.Encoders(clip, clip_tokenizer, recall.encoder, tokenizer, device)
    model = flow.build(heads=config.heads, head_width=config.head_width, double=config.double, single=config.single, text_width=width)
    parts = {
        "transformer": model, "vae": vae, "text_encoder": clip, "tokenizer": clip_tokenizer, "text_encoder_2": recall.encoder,
        "tokenizer_2": tokenizer, "scheduler": flow.build_scheduler(),
    }  # fmt: skip
    for number, plan in enumerate(config.rounds, start=1):
        model = _round(number, plan, model, parts, encoders, config, shop)
    # the text encoders stay float32, since transformers keeps the stored type
    parts |= {"transformer": model.half()}
    for name in ("vae", "text_encoder", "text_encoder_2"):
        parts[name].to("cpu")
    vae.half()
    save_pipeline(out / "mini-flux", "FluxPipeline", parts, absent=("image_encoder", "feature_extractor"))
    return out


def _round(
    number: int, plan: Round, model: nn.Module, parts: dict[str, Any], encoders: flow.Encoders, config: FluxPretrainConfig, shop: Workshop
) -> nn.Module:
    """Return the model that a round ends with; a round that has ended is read from its file."""
    seed, device, ended = config.seed, shop.device, shop.work / f"round-{number}.safetensors"
    if ended.is_file():
        model.load_state_dict(load_file(ended))
        return model

    def backbone(transformer: nn.Module) -> FluxBackbone:
        return FluxBackbone({**parts, "transformer": transformer}, fingerprint="unfinished", size=SIDE, placement=Placement(device=device))

    def grid(steps: int, guidance: float) -> Draw:
        return lambda transformer: sample_grid(backbone(transformer), steps=steps, guidance=guidance)

    latents = denoiser.encode_scenes(
        parts["vae"], seed, plan.scenes, shop.work / f"latents-{number}.safetensors", counts=plan.counts, device=device
    )
    loss = flow.FlowLoss(latents, encoders, counts=plan.counts, seed=seed, batch=plan.flow.batch)
    shop.train(f"flow-{number}", model, loss, plan.flow, draw=grid(plan.pair_steps, plan.pair_guidance))
    captions, teacher = reflow.PairCaptions(seed=seed, counts=plan.counts), backbone(model)
    pairs = reflow.draw_pairs(
        teacher, captions, plan.pairs, shop.work / f"pairs-{number}", steps=plan.pair_steps, guidance=plan.pair_guidance,
        dtype=training_dtype(device), progress=lambda done: shop.observe(f"pairs-{number}", done, {}),
    )  # fmt: skip
    kept = range(len(pairs))
    if plan.faithful:
        kept = reflow.faithful(teacher, pairs, captions, _critic(config, shop))
        shop.observe(f"faithful-{number}", len(pairs), {"kept": len(kept)})
    student = copy.deepcopy(model).requires_grad_(True)
    reflow_loss = reflow.ReflowLoss(pairs, kept, captions, encoders, seed=seed, batch=plan.reflow.batch)
    shop.train(f"reflow-{number}", student, reflow_loss, plan.reflow, draw=grid(4, 1.0))
    with atomic_path(ended) as temporary:
        save_file(student.state_dict(), temporary)
    return student


def _critic(config: FluxPretrainConfig, shop: Workshop) -> Judge:
    """Train a segmenter on other scenes than the judge's, so that the judge has no part in what it judges."""
    folder = shop.work / "critic"
    judge.train(shop, "critic", config.critic, config.seed + 1).save_pretrained(folder)
    return load_judge(str(folder), device=shop.device)
