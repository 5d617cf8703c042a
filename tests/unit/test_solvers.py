"""Solvers of higher order: what diffusers' own pipelines draw with them, steered as with the family's own sampler."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import l2s_core as l2s
from l2s_core.backbones.architecture import load_architecture, random_backbone
from l2s_core.backbones.folder import SHIPPED
from l2s_core.backbones.load import load_backbone, require_fit
from l2s_core.backbones.solvers import KINDS
from l2s_core.config import load_run_config
from l2s_core.diffusion.sampler import Sampler
from l2s_core.diffusion.sampling import initial_noise, sample
from l2s_core.errors import UserError
from l2s_core.evaluation.run import Run
from l2s_core.prompts.prompt import parse_several

PROMPT = "a dog to the left of a cat"


@pytest.mark.parametrize("solver", KINDS)
def test_images_are_those_of_diffusers_own_pipeline_with_that_scheduler(solver: str) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(SHIPPED / "mini-sd").to("cpu", torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    name, settings = KINDS[solver]
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **settings)
    backbone = load_backbone(load_run_config("mini-sd").backbone, "cpu")
    noise = initial_noise([0, 1], backbone.latent_shape)
    theirs = pipeline(
        [PROMPT] * 2,
        latents=noise,
        num_inference_steps=6,
        guidance_scale=3.0,
        negative_prompt=["dog"] * 2,
        output_type="np",
    ).images
    sampler = Sampler(backbone=backbone, steps=6, guidance=3.0, batch=2, negative="dog", solver=solver)
    first, again = (sampler.from_noise([parse_several(PROMPT)] * 2, noise).images.numpy() for _ in range(2))
    assert np.abs(theirs * 255 - first).max() <= 1.01 and np.array_equal(first, again)
    own = Sampler(backbone=backbone, steps=6, guidance=3.0, batch=2, negative="dog")
    assert np.abs(own.from_noise([parse_several(PROMPT)] * 2, noise).images.numpy().astype(int) - first).max() > 5


@torch.no_grad()
def test_sana_is_sampled_as_it_was_published() -> None:
    """DPM-Solver++ of second order on its flow: the random model's own scheduler is of the first."""
    backbone = random_backbone(load_architecture("sana"), "tiny")
    parts = dict(backbone.parts)
    parts["scheduler"] = type(parts["scheduler"]).from_config(parts["scheduler"].config, solver_order=2)
    pipeline = diffusers.SanaPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    z = initial_noise([3, 4], backbone.latent_shape)
    theirs = pipeline(
        prompt=[PROMPT] * 2,
        latents=z,
        num_inference_steps=5,
        guidance_scale=3.5,
        height=64,
        width=64,
        max_sequence_length=backbone.parts["tokenizer"].model_max_length,
        use_resolution_binning=False,
        output_type="np",
    ).images
    condition = backbone.encode_prompts([PROMPT] * 2, guidance=3.5)
    ours = backbone.decode(sample(backbone, z, condition, backbone.sampling(5, "dpm++")))
    assert np.abs(theirs * 255 - ours).max() <= 1.01


def test_one_trajectory_does_not_remember_the_one_before() -> None:
    """The schedule of a batch serves every trajectory of it."""
    backbone = load_backbone(load_run_config("mini-sd").backbone, "cpu")
    schedule = backbone.sampling(4, "dpm++")
    condition = backbone.encode_prompts([PROMPT])
    z = initial_noise([0], backbone.latent_shape)
    first, again = (sample(backbone, z, condition, schedule) for _ in range(2))
    assert torch.equal(first, again) and len(schedule) == len(schedule.timesteps) == 4


def test_a_classifier_steers_whatever_solves() -> None:
    settings = {"backbone.solver": "dpm++", "steering.until_step": 2, "steering.updates": 2}
    made = l2s.load("mini-sd", settings=settings)(PROMPT, seeds=[0])
    assert made.gradients[0] >= 1 and not np.array_equal(made.images[0], made.plain[0])


def test_a_solver_is_part_of_images_addresses_alone_and_flows_have_none(tmp_path: Path) -> None:
    own, other = (
        Run.of(load_run_config("mini-sd", {"backbone.solver": name}), tmp_path).paths for name in (None, "unipc")
    )
    assert own.noise == other.noise and own.maps == other.maps and own.samples("plain") != other.samples("plain")
    assert "solver" not in own.config.backbone.model_dump()
    with pytest.raises(UserError, match="backbone.solver is dpm.., but family flux is sampled by Euler steps alone"):
        require_fit(load_run_config("mini-flux", {"backbone.solver": "dpm++"}))
    with pytest.raises(UserError, match="backbone.solver: Input should be 'dpm.*heun"):
        load_run_config("mini-sd", {"backbone.solver": "heun"})
