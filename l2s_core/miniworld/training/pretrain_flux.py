"""Train mini-flux from a seed, on the autoencoder and the CLIP encoder of mini-sd.

First comes the T5 encoder, then rounds of a flow model and its student.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from l2s_core.backbones.flux import FluxBackbone
from l2s_core.backbones.folder import SHIPPED, resolve_folder, save_pipeline
from l2s_core.backbones.model import Placement
from l2s_core.config import Section
from l2s_core.miniworld.training import denoiser, flow, reflow, t5
from l2s_core.miniworld.training.distillation import DistillationLoss
from l2s_core.miniworld.training.pretrain_sd import Predecessor
from l2s_core.miniworld.training.rounds import SceneRound
from l2s_core.miniworld.training.trainer import TrainPlan
from l2s_core.miniworld.training.workshop import MODELS, Draw, Workshop, sample_grid
from l2s_core.miniworld.world.captions import LANGUAGE_COUNTS
from l2s_core.miniworld.world.scenes import SIDE
from l2s_core.miniworld.world.streams import Stream
from l2s_core.miniworld.world.tokenizers import T5_LENGTH, t5_tokenizer
from l2s_core.storage.store import START_AGAIN, read_weights, write_weights

GRID_STEPS = 12  # of a flow model's grids
GRID_GUIDANCE = 5.0  # the same; a student needs no guidance


class Reflow(TrainPlan):
    """A student that learns `pairs` of noise and sample.

    The flow model draws them in `pair_steps` steps at `guidance`.
    """

    by: Literal["reflow"]
    guidance: float = Field(ge=1)
    pairs: int = Field(ge=1)
    pair_steps: int = Field(ge=1)


class Distillation(TrainPlan):
    """A student that learns the flow model's velocity at `guidance`."""

    by: Literal["distillation"]
    guidance: float = Field(ge=1)


class Round(SceneRound):
    """A flow model trained on rendered scenes, and its student, if it has one.

    It begins with what the round before ended with.
    """

    flow: TrainPlan
    student: Annotated[Reflow | Distillation, Field(discriminator="by")] | None = None


class FluxPretrainConfig(Section):
    """Seed, sizes, the plan of the T5 encoder and the rounds.

    With `begin`, a shipped name or a folder in diffusers' layout, the transformer and the T5 encoder go on from that
    model, the encoder as it is if it has no plan; with `after` from that of another training, which comes first.
    `encoders` is a training of mini-sd that comes first, too: its autoencoder and CLIP encoder are used. `window` is
    the T5 encoder's, in tokens, `language` the shares of its sentences of one, two, three … objects and `only_a` as in
    `language_caption`.
    """

    model: Literal["mini-flux"]
    seed: int
    after: FluxPredecessor | None = None
    encoders: Predecessor | None = None
    begin: str | None = None
    window: int = Field(default=T5_LENGTH, ge=T5_LENGTH)
    language: tuple[float, ...] = LANGUAGE_COUNTS
    only_a: float = Field(default=0.0, ge=0, le=1)
    heads: int = 6
    head_width: int = 32
    double: int = 2
    single: int = 4
    t5: TrainPlan | None = None
    rounds: tuple[Round, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_a_beginning(self) -> FluxPretrainConfig:
        if self.begin is None and self.after is None and self.t5 is None:
            raise ValueError(
                "t5 has no plan and there is no model to take it from; "
                "give its plan, or name a model in begin, or a training in after"
            )
        if self.after is not None and self.begin:
            raise ValueError("after and begin both say what training goes on from; give one of them")
        return self


class FluxPredecessor(Section):
    """A training of mini-flux that comes before another one, in a folder of its `name`."""

    name: str
    config: FluxPretrainConfig


def pretrain_flux(
    config: FluxPretrainConfig, shop: Workshop, after: Path | None = None, encoders: Path | None = None
) -> Path:
    """Train everything; return the folder that holds mini-flux.

    `after` and `encoders` are those of the trainings of these names in `config`.
    """
    from diffusers import AutoencoderKL

    seed = config.seed
    device = shop.device
    out = shop.work / MODELS
    base = encoders / "mini-sd" if encoders else _base(config, out)
    vae = AutoencoderKL.from_pretrained(base / "vae")
    vae.register_to_config(shift_factor=0.0)  # FluxPipeline wants one; these latents have mean zero as they are
    clip = CLIPTextModel.from_pretrained(base / "text_encoder")
    clip_tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    width = clip.config.hidden_size
    begin = str(after / "mini-flux") if after else config.begin
    begun = _begun(begin) if begin else {}
    tokenizer = begun.get("tokenizer_2") or t5_tokenizer(seed, length=config.window)
    tokenizer.model_max_length = config.window
    torch.manual_seed(seed)
    encoder = begun.get("text_encoder_2") or t5.build_encoder(tokenizer, width=width, layers=2, heads=4)
    if config.t5 is not None:
        size = config.t5.batch
        recall = t5.ContextRecall(encoder)

        def loss(_: nn.Module, step: int) -> Tensor:
            ids_BK = t5.batch(tokenizer, seed, step, size, config.language, config.only_a)
            return t5.loss(recall, ids_BK.to(device))

        shop.train("t5", recall, loss, config.t5)
    parts = {
        "vae": vae,
        "text_encoder": clip,
        "tokenizer": clip_tokenizer,
        "text_encoder_2": encoder,
        "tokenizer_2": tokenizer,
        "scheduler": flow.build_scheduler(),
    }
    training = RoundTraining(
        shop=shop, parts=parts, encoders=flow.Encoders(clip, clip_tokenizer, encoder, tokenizer, device)
    )
    torch.manual_seed(seed)  # whatever was trained, or was found trained, before
    model = begun.get("transformer") or flow.build(
        heads=config.heads, head_width=config.head_width, double=config.double, single=config.single, text_width=width
    )
    for number, plan in enumerate(config.rounds, start=1):
        model = training.run(number, plan, model)
    for name in ("vae", "text_encoder", "text_encoder_2"):
        parts[name].to("cpu")
    vae.half()  # the text encoders stay float32, since transformers keeps the stored type
    save_pipeline(
        out / "mini-flux",
        "FluxPipeline",
        parts | {"transformer": model.half()},
        absent=("image_encoder", "feature_extractor"),
    )
    return out


def _base(config: FluxPretrainConfig, models: Path) -> Path:
    """Return the model whose autoencoder and CLIP encoder are used where no training comes before.

    That is the mini-sd that was trained in the same WORK, or else the model to go on from, or the mini-sd that ships.
    """
    own = models / "mini-sd"
    if (own / "model_index.json").is_file():
        return own
    return resolve_folder(config.begin, FluxBackbone.COMPONENTS) if config.begin else SHIPPED / "mini-sd"


def _begun(model: str) -> dict[str, Any]:
    """Return the parts of the model that training goes on from, in float32."""
    components = FluxBackbone.COMPONENTS
    folder = resolve_folder(model, components)
    parts = {
        name: components[name].kind.from_pretrained(folder / name)
        for name in ("tokenizer_2", "text_encoder_2", "transformer")
    }
    return {
        name: part.float().requires_grad_(True) if isinstance(part, nn.Module) else part for name, part in parts.items()
    }


@dataclass(frozen=True, kw_only=True)
class RoundTraining:
    """Trains the rounds; `parts` are the pipeline's components but the transformer."""

    shop: Workshop
    parts: dict[str, Any]
    encoders: flow.Encoders

    def run(self, number: int, plan: Round, model: nn.Module) -> nn.Module:
        """Return the model that round `number` ends with, having begun with `model`.

        A round that has ended is read from its file.
        """
        shop = self.shop
        ended = self.shop.work / f"round-{number}.safetensors"
        if ended.is_file():
            model.load_state_dict(read_weights(ended, START_AGAIN))
            return model
        path = shop.work / f"latents-{number}.safetensors"
        latents = denoiser.encode_scenes(
            self.parts["vae"],
            shop.seed,
            plan.scenes,
            path,
            counts=plan.counts,
            device=shop.device,
            workers=shop.workers,
        )
        captions = denoiser.SceneCaptions(
            seed=shop.seed,
            batch=plan.flow.batch,
            scenes=plan.scenes,
            counts=plan.counts,
            style=plan,
            capitals=t5.CAPITALS,
            tokenizers=(self.parts["tokenizer_2"], self.parts["tokenizer"]),
        )
        batches = flow.SceneBatches(
            latents=latents, encoders=self.encoders, captions=shop.ahead(captions, plan.flow.steps)
        )
        loss = partial(flow.flow_loss, batches, decisive=plan.decisive, bfloat16=plan.flow.bfloat16)
        shop.train(f"flow-{number}", model, loss, plan.flow, draw=self._grid(GRID_GUIDANCE))
        student = plan.student
        if student is not None:
            teacher = model.requires_grad_(False).to(shop.device)
            model = copy.deepcopy(model).requires_grad_(True)
            taught = (
                self._reflow(number, plan, student, teacher)
                if isinstance(student, Reflow)
                else self._distillation(student, batches, captions, teacher)
            )
            shop.train(f"{student.by}-{number}", model, taught, student, draw=self._grid(1.0))
        write_weights(ended, model.state_dict())
        return model

    def _reflow(self, number: int, plan: Round, student: Reflow, teacher: nn.Module) -> reflow.ReflowLoss:
        name = f"pairs-{number}"
        captions = reflow.PairCaptions(seed=self.shop.seed, counts=plan.counts, style=plan)
        pairs = reflow.draw_pairs(
            self._backbone(teacher),
            captions,
            student.pairs,
            self.shop.work / name,
            steps=student.pair_steps,
            guidance=student.guidance,
            progress=lambda done: self.shop.observe(name, done, {}),
        )
        return reflow.ReflowLoss(pairs, captions, self.encoders, seed=self.shop.seed, batch=student.batch)

    def _distillation(
        self,
        student: Distillation,
        batches: flow.SceneBatches,
        captions: denoiser.SceneCaptions,
        teacher: nn.Module,
    ) -> DistillationLoss:
        captions = replace(captions, batch=student.batch, stream=Stream.DISTILLATION_BATCHES)
        batches = replace(batches, captions=self.shop.ahead(captions, student.steps))
        return DistillationLoss(
            batches=batches,
            teacher=teacher,
            empty=self.encoders([""]),
            guidance=student.guidance,
            bfloat16=student.bfloat16,
        )

    def _backbone(self, transformer: nn.Module) -> FluxBackbone:
        placement = Placement(device=self.shop.device)
        return FluxBackbone(
            {**self.parts, "transformer": transformer}, fingerprint="unfinished", size=SIDE, placement=placement
        )

    def _grid(self, guidance: float) -> Draw:
        return lambda transformer: sample_grid(self._backbone(transformer), steps=GRID_STEPS, guidance=guidance)
