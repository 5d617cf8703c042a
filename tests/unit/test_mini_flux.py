"""The shipped flow model: a true FluxPipeline folder, small, few and many steps, both objects in its images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from l2s_core.backbones.folder import SHIPPED
from l2s_core.backbones.load import load_backbone
from l2s_core.config import load_run_config
from l2s_core.diffusion.sampler import Sampler
from l2s_core.diffusion.sampling import initial_noise, sample
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.evaluation.protocols.relation_rule import judge_relations

TEXTS = ["a photo of a dog to the left of a cat", "a photo of an orange above a zebra"]


@pytest.fixture(scope="module")
def flux():
    return load_backbone(load_run_config("mini-flux").backbone, "cpu")


def test_the_folder_is_small_and_holds_every_component() -> None:
    folder = SHIPPED / "mini-flux"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 25e6
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "FluxPipeline"
    assert {name: kind for name, (_, kind) in ((k, v) for k, v in index.items() if isinstance(v, list)) if kind} == {
        "transformer": "FluxTransformer2DModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
        "text_encoder_2": "T5EncoderModel",
        "tokenizer_2": "T5Tokenizer",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
    }


@pytest.mark.parametrize("steps", [4, 12])
def test_sampling_matches_diffusers_own_pipeline(flux, steps: int) -> None:
    from diffusers import FluxPipeline

    from l2s_core.backbones.flux import pack

    pipeline = FluxPipeline.from_pretrained(SHIPPED / "mini-flux", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    z = initial_noise([1, 2], flux.latent_shape)
    theirs = pipeline(
        TEXTS,
        latents=pack(z),
        height=64,
        width=64,
        num_inference_steps=steps,
        guidance_scale=1.0,
        max_sequence_length=flux._words,
        output_type="np",
    ).images
    ours = flux.decode(sample(flux, z, flux.encode_prompts(TEXTS), flux.schedule(steps)))
    assert np.abs(theirs * 255 - ours).max() <= 1.01


@pytest.mark.parametrize(("config", "least"), [("mini-flux", 0.85), ("mini-flux-few", 0.85)])
def test_images_show_both_objects(flux, config: str, least: float) -> None:
    """Far below what the whole suite gives: 36 images of the development suite."""
    run = load_run_config(config, {"benchmark": "dev", "benchmark.prompts": 12, "benchmark.seeds": 1})
    items = benchmark_items(run)
    with torch.no_grad():
        images = Sampler.of(flux, run)([i.prompt for i in items], [i.seed for i in items]).images
    found = load_judge("mini-seg", device="cpu").detect(images.numpy())
    assert (
        np.mean([judge_relations(item.prompt, d, 0.3).all_found for d, item in zip(found, items, strict=True)]) >= least
    )
