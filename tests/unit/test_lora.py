"""LoRA weights by configuration: merged as diffusers itself applies them, and part of what a model is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import l2s_core as l2s
from l2s_core.backbones.folder import SHIPPED
from l2s_core.backbones.load import check_backbone, load_backbone, model_fingerprint
from l2s_core.config import BackboneConfig, load_run_config
from l2s_core.diffusion.sampler import Sampler
from l2s_core.errors import UserError
from l2s_core.evaluation.run import Run
from l2s_core.interface.pipelines import backbone_of
from l2s_core.planning.doctor import examine
from l2s_core.prompts.prompt import parse_several

PROMPT = "a dog to the left of a cat"
FILE = "pytorch_lora_weights.safetensors"
TARGETS = {"unet": ["to_q", "to_k", "to_v", "to_out.0"], "transformer": ["to_q", "to_k"], "text_encoder": ["q_proj"]}
PIPELINES = {"mini-sd": StableDiffusionPipeline, "mini-flux": FluxPipeline}


def pipeline_of(model: str):
    return PIPELINES[model].from_pretrained(SHIPPED / model)


def save_lora(folder: Path, model: str, *parts: str) -> Path:
    """Write LoRA weights, drawn at random, for parts of a model, as its pipeline does; return the file."""
    pipeline = pipeline_of(model)
    torch.manual_seed(0)
    layers = {}
    for name in parts:
        part = getattr(pipeline, name)
        part.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=TARGETS[name], init_lora_weights=False))
        layers[f"{name}_lora_layers"] = {k: 2 * v for k, v in get_peft_model_state_dict(part).items()}
    PIPELINES[model].save_lora_weights(folder, **layers)
    return folder / FILE


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA weights of mini-sd's UNet and text encoder."""
    return save_lora(tmp_path_factory.mktemp("lora"), "mini-sd", "unet", "text_encoder")


def backbone_config(model: str, **lora: object) -> BackboneConfig:
    settings = {"backbone.lora": [lora]} if lora else {}
    return load_run_config(model, settings).backbone


@pytest.mark.parametrize(("model", "parts"), [("mini-sd", ("unet", "text_encoder")), ("mini-flux", ("transformer",))])
def test_a_lora_does_what_it_does_in_diffusers_own_pipeline(tmp_path: Path, model: str, parts: tuple[str, ...]) -> None:
    path = save_lora(tmp_path, model, *parts)
    config = backbone_config(model, path=str(path), scale=0.7)
    merged = load_backbone(config, "cpu")
    pipeline = pipeline_of(model).to("cpu", torch.float32)
    plain = Sampler(backbone=backbone_of(pipeline, 64), steps=4, guidance=3.0, batch=2)
    pipeline.load_lora_weights(tmp_path, weight_name=FILE, adapter_name="it")
    pipeline.set_adapters(["it"], [0.7])
    own = Sampler(backbone=backbone_of(pipeline, 64), steps=4, guidance=3.0, batch=2)
    asked = [parse_several(PROMPT)] * 2
    found, expected = (
        sampler(asked, [0, 1]).images.numpy()
        for sampler in (Sampler(backbone=merged, steps=4, guidance=3.0, batch=2), own)
    )
    assert np.abs(found.astype(int) - expected).max() <= 1
    pipeline.unload_lora_weights()
    assert np.abs(plain(asked, [0, 1]).images.numpy().astype(int) - expected).mean() > 2


def test_merged_weights_are_the_sum(lora: Path) -> None:
    """W + scale B A (Hu et al. 2022, section 4.1), of two LoRAs one after the other."""
    config = backbone_config("mini-sd")
    given = [{"path": str(lora), "scale": 0.5}, {"path": str(lora), "scale": -2.0}]
    merged = load_backbone(load_run_config("mini-sd", {"backbone.lora": given}).backbone, "cpu")
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    stored = load_file(lora)
    added = stored[f"unet.{layer}.lora_B.weight"] @ stored[f"unet.{layer}.lora_A.weight"]
    before, after = (
        model.denoiser.get_parameter(f"{layer}.weight") for model in (load_backbone(config, "cpu"), merged)
    )
    assert (after - (before - 1.5 * added)).abs().max() < 1e-5
    assert not any("lora" in name for name, _ in merged.denoiser.named_parameters())
    assert not any(parameter.requires_grad for parameter in merged.denoiser.parameters())


def test_a_lora_and_its_scale_are_part_of_what_a_model_is_and_of_every_address(lora: Path, tmp_path: Path) -> None:
    plain = backbone_config("mini-sd")
    half, whole = (backbone_config("mini-sd", path=str(lora), scale=scale) for scale in (0.5, 1.0))
    half_run = load_run_config("mini-sd", {"backbone.lora": [{"path": str(lora), "scale": 0.5}]})
    assert "lora" not in plain.model_dump()
    assert len({model_fingerprint(config) for config in (plain, half, whole)}) == 3
    model = load_backbone(half, "cpu")
    assert model.fingerprint == model_fingerprint(half) and model.files_fingerprint == model_fingerprint(plain)
    pinned = half.model_copy(update={"fingerprint": model_fingerprint(plain)})
    assert model_fingerprint(pinned) == model_fingerprint(half)
    (weights,) = (check for check in examine(half_run, tmp_path) if check.name == "model weights")
    assert weights.detail.endswith(f"fingerprint {pinned.fingerprint}")  # what can be pinned
    runs = [
        Run.of(load_run_config("mini-sd", {"backbone.lora": given}), tmp_path) for given in ([], [{"path": str(lora)}])
    ]
    for stage in ("noise", "maps"):
        assert len({getattr(run.paths, stage) for run in runs}) == 2


def test_a_classifier_steers_the_model_that_it_knows_with_a_lora(lora: Path) -> None:
    """Personal subjects: the classifier is that of the model as it was published."""
    settings = {"backbone.lora": [{"path": str(lora), "scale": 0.2}], "steering.until_step": 1, "steering.updates": 1}
    model = l2s.load("mini-sd", settings=settings)
    assert model(PROMPT, seeds=[0]).gradients == [1]


def test_a_lora_that_is_active_in_a_pipeline_tells_it_from_others(lora: Path) -> None:
    pipeline = pipeline_of("mini-sd")
    plain = backbone_of(pipeline).fingerprint
    pipeline.load_lora_weights(lora.parent, weight_name=FILE, adapter_name="it")
    seen = [plain, backbone_of(pipeline).fingerprint]
    pipeline.set_adapters(["it"], [0.5])
    seen.append(backbone_of(pipeline).fingerprint)
    assert len(set(seen)) == 3
    pipeline.disable_lora()
    assert backbone_of(pipeline).fingerprint == plain


def test_what_cannot_be_merged_is_one_clear_line(lora: Path, tmp_path: Path) -> None:
    missing = backbone_config("mini-sd", path=str(tmp_path / "no.safetensors"))
    with pytest.raises(UserError, match="backbone.lora: no .safetensors file .*no.safetensors; allowed: such a file"):
        check_backbone(missing)
    with pytest.raises(UserError, match=r"holds 0 .safetensors files \(none\); name the file itself"):
        model_fingerprint(backbone_config("mini-sd", path=str(tmp_path)))
    with pytest.raises(UserError, match="of which this model has 3; use one that was trained for this model"):
        load_backbone(backbone_config("mini-flux", path=str(lora)), "cpu")
    stored = load_file(lora)
    more = tmp_path / "more.safetensors"
    save_file(stored | {k.replace("attn2", "attn9"): v.clone() for k, v in stored.items() if "attn2" in k}, more)
    with pytest.raises(UserError, match=r"more.safetensors has weights for \d+ layers, of which this model has \d+"):
        load_backbone(backbone_config("mini-sd", path=str(more)), "cpu")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(lora.read_bytes()[:-100])
    with pytest.raises(UserError, match="bad.safetensors holds no weights .*; fetch the file again"):
        load_backbone(backbone_config("mini-sd", path=str(bad)), "cpu")
    save_file({k: v * torch.inf for k, v in stored.items()}, bad)
    with pytest.raises(UserError, match="are not finite numbers"):
        load_backbone(backbone_config("mini-sd", path=str(bad)), "cpu")
