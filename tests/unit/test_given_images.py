"""A ControlNet and an IP-Adapter of a pipeline: its own images, and steering through all that acts on the UNet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from PIL import Image
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

import l2s_core as l2s
from l2s_core.attention.pooling import pool_maps
from l2s_core.attention.probabilities import phrase_attention_reference
from l2s_core.attention.reader import AttentionReader
from l2s_core.attention.reference import watching_attention
from l2s_core.backbones.folder import SHIPPED
from l2s_core.backbones.given_images import require_readable
from l2s_core.diffusion.sampling import initial_noise
from l2s_core.prompts.prompt import parse_several

PROMPT = "a dog to the left of a cat"
PROMPTS = [parse_several(PROMPT)] * 2
SEEDS = [3, 4]
TOKENS = 4  # of an IP-Adapter's image
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def controlled() -> Any:
    """mini-sd with a random ControlNet, whose last layers are not zero, as they are before its training."""
    plain = StableDiffusionPipeline.from_pretrained(SHIPPED / "mini-sd")
    torch.manual_seed(0)
    factor = plain.vae_scale_factor.bit_length()
    net = ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(8,) * factor)
    for layer in [*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out]:
        nn.init.normal_(layer.weight, std=0.3)
    return StableDiffusionControlNetPipeline(**plain.components, controlnet=net, requires_safety_checker=False)


def adapted() -> Any:
    """mini-sd with a random IP-Adapter."""
    pipeline = StableDiffusionPipeline.from_pretrained(SHIPPED / "mini-sd")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**small, image_size=32, patch_size=8, projection_dim=8))
    pipeline.register_modules(image_encoder=encoder, feature_extractor=CLIPImageProcessorPil(size=32, crop_size=32))
    width = pipeline.unet.config.cross_attention_dim
    layers = [module for name, module in pipeline.unet.named_modules() if name.endswith(".attn2")]
    order = {"down": 0, "up": 1, "mid": 2}
    names = [name for name in pipeline.unet.attn_processors if "attn2" in name]
    assert len(names) == len(layers) and names == sorted(names, key=lambda name: order[name.split("_")[0]])
    sides = [pipeline.unet.get_submodule(name.removesuffix(".processor")).to_q.out_features for name in names]
    weights = {
        f"{1 + 2 * number}.{kind}.weight": torch.randn(side, width) / width**0.5
        for number, side in enumerate(sides)
        for kind in ("to_k_ip", "to_v_ip")
    }
    projection = {
        "proj.weight": torch.randn(TOKENS * width, 8),
        "proj.bias": torch.zeros(TOKENS * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    pipeline.load_ip_adapter(
        {"image_proj": projection, "ip_adapter": weights}, subfolder="", weight_name=None, image_encoder_folder=None
    )
    return pipeline


KINDS = {
    "control": (controlled, {"control_image": PICTURE, "control_scale": 0.7}, {"image": PICTURE}),
    "adapter": (adapted, {"ip_adapter_image": PICTURE}, {"ip_adapter_image": PICTURE}),
}


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Any]:
    made = {name: make() for name, (make, _, _) in KINDS.items()}
    for pipeline in made.values():
        pipeline.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipelines_own_images_and_steered_ones(pipelines, kind: str) -> None:
    pipeline, (_, ours, theirs) = pipelines[kind], KINDS[kind]
    if kind == "control":
        theirs = {"image": [PICTURE] * 2, "controlnet_conditioning_scale": 0.7}
    model = l2s.load(pipeline, "mini-sd")
    steered = model(PROMPT, seeds=SEEDS, steps=6, guidance=3.0, **ours)
    expected = pipeline(
        [PROMPT] * 2, latents=steered.noise, num_inference_steps=6, guidance_scale=3.0, output_type="np", **theirs
    ).images
    assert np.abs(expected * 255 - steered.plain_pixels.numpy()).max() <= 1.01
    without = l2s.load("mini-sd", device="cpu")(PROMPT, seeds=SEEDS, steps=6, guidance=3.0, steer=False)
    assert (without.pixels.int() - steered.plain_pixels.int()).abs().float().mean() > 2
    assert min(steered.gradients) > 0 and not torch.equal(steered.pixels, steered.plain_pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_the_texts_attention_is_read_and_its_gradient_goes_through_all(pipelines, kind: str) -> None:
    """The maps are those of the text's keys, and the gradient is the slope of a loss on them, in float64."""
    model = l2s.load(pipelines[kind], config="mini-sd").backbone
    ours = KINDS[kind][1]
    backbone = model.given(ours.get("control_image"), ours.get("ip_adapter_image"))
    condition, weights_BOK = backbone.encode_prompts([PROMPT] * 2), backbone.phrase_weights(PROMPTS)
    reader = AttentionReader(backbone)
    z = initial_noise(SEEDS, backbone.latent_shape)
    with watching_attention() as calls, torch.no_grad():
        plain = backbone.predict(z, 500, condition)
    maps_BOMGG, captured = reader.read_and_predict(z, 500, condition, weights_BOK)
    words = weights_BOK.shape[-1]
    of_text = [call for call in calls if call[1].shape[2] == words][
        -len(reader.layers) :
    ]  # the ControlNet's come first
    if kind == "adapter":
        assert sum(call[1].shape[2] == TOKENS for call in calls) == len(reader.layers)
    expected = pool_maps([phrase_attention_reference(q, k, weights_BOK, mask) for q, k, mask in of_text], reader.grid)
    assert torch.equal(plain, captured) and (maps_BOMGG - expected).abs().max() < 1e-6

    def loss(point: torch.Tensor) -> torch.Tensor:
        return (reader.read(point, 500, condition, weights_BOK) * 256).square().sum()

    point = z.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(point), point)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        slope = (loss(z + 0.01 * direction) - loss(z - 0.01 * direction)) / 0.02
    assert slope.item() == pytest.approx(gradient.norm().item(), rel=0.01)


def test_images_that_are_missing_or_of_no_use_are_one_line(pipelines) -> None:
    control, adapter = (l2s.load(pipelines[kind], "mini-sd") for kind in KINDS)
    plain = l2s.load("mini-sd", device="cpu")
    for call, message in (
        (lambda: control(PROMPT), "this pipeline has a ControlNet; .*control_image="),
        (lambda: adapter.steerer(PROMPT), "this pipeline has an IP-Adapter; .*ip_adapter_image="),
        (lambda: adapter(PROMPT, ip_adapter_image=PICTURE, control_image=PICTURE), "control_image is given, but"),
        (lambda: plain(PROMPT, control_image=PICTURE), "control_image is given, but this model has neither"),
        (lambda: control.backbone.encode_prompts([PROMPT]), "give its images first"),
    ):
        with pytest.raises(l2s.UserError, match=message):
            call()
    several = SimpleNamespace(controlnet=nn.Module())
    with pytest.raises(l2s.UserError, match="this pipeline's Module is not read; allowed: one ControlNetModel"):
        require_readable(several)


def test_the_images_of_another_family_are_refused(pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were left out, without a word."""
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(SHIPPED / "mini-flux")
    l2s.load(pipeline, "mini-flux")
    pipeline.transformer.encoder_hid_proj = nn.Identity()  # as load_ip_adapter leaves one there
    with pytest.raises(l2s.UserError, match="the ControlNet or IP-Adapter of a FluxPipeline is not read"):
        l2s.load(pipeline, "mini-flux")
