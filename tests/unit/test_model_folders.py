"""Model folders as people have them: other schedulers, precisions, vocabularies, numbers of steps."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from helpers.models import clip_tokenizer
from safetensors.torch import load_file, save_file

from l2s_core.backbones.component import ClipTokenizer, NoiseSchedule
from l2s_core.backbones.ddim import ddim_schedule
from l2s_core.backbones.folder import SHIPPED, component_files, fingerprint_of
from l2s_core.backbones.load import (
    backbone_without_weights,
    check_backbone,
    load_backbone,
    model_folder,
    require_reach,
)
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.config import BackboneConfig, load_run_config
from l2s_core.errors import UserError

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def scheduler(**settings: object) -> DDIMScheduler:
    return DDIMScheduler(**{**BETAS, "steps_offset": 1, "set_alpha_to_one": False, **settings})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return shutil.copytree(SHIPPED / "mini-sd", tmp_path / "model")


def settings(model: Path, **more: object) -> BackboneConfig:
    return BackboneConfig(**{"model": str(model), "family": "unet", "steps": 4, "guidance": 1.0, **more})


def test_every_number_of_steps_goes_from_noise_to_image_or_is_refused() -> None:
    """1000 steps were an IndexError, 600 began at timestep 600, and "trailing" with 61 read alpha[-1], the noisiest."""
    for spacing in ("leading", "linspace", "trailing"):
        refused = []
        for steps in range(2, 1001):
            noise = scheduler(timestep_spacing=spacing)
            try:
                schedule = ddim_schedule(noise, steps)
            except UserError as error:
                assert "does not reach the noise" in str(error)
                refused.append(steps)
                continue
            timesteps = np.array(schedule.timesteps)
            assert len(schedule) == steps and (np.diff(timesteps) < 0).all()
            assert timesteps.max() < 1000 and timesteps.min() >= 0
            assert 999 - timesteps[0] <= max(100, 2 * (1000 // steps))
            # DDIM moves an exact noisy image along its own line: all of the noise goes, all of the image comes
            alphas = [float(noise.alphas_cumprod.double()[t]) for t in timesteps]
            z, image = alphas[0] ** 0.5 * 1.0 + (1 - alphas[0]) ** 0.5 * 0.5, float(noise.final_alpha_cumprod)
            for keep, add in zip(schedule.keep, schedule.add, strict=True):
                z = keep * z + add * 0.5
            assert z == pytest.approx(image**0.5 + (1 - image) ** 0.5 * 0.5, abs=1e-6)
        assert not {10, 20, 25, 30, 50, 100, 200, 250, 500, 1000} & set(refused)
        assert refused == [] or (spacing == "leading" and {300, 600} <= set(refused))
    with pytest.raises(UserError, match="backbone.steps is 600, .*the next smaller number for which it does is 5"):
        ddim_schedule(scheduler(timestep_spacing="leading"), 600)
    with pytest.raises(UserError, match="10 timesteps"):
        ddim_schedule(scheduler(num_train_timesteps=10), 20)


def test_noise_cannot_be_predicted_where_there_is_no_signal() -> None:
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    assert np.isfinite(ddim_schedule(scheduler(**zero, prediction_type="v_prediction"), 10).keep).all()
    with pytest.raises(UserError, match="rescale_betas_zero_snr"):
        ddim_schedule(scheduler(**zero), 10)


OTHERS = (
    "DDPMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "DEISMultistepScheduler",
    "LMSDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler",
)


@pytest.mark.parametrize("name", OTHERS)
def test_the_noise_of_any_scheduler_is_read(tmp_path: Path, name: str) -> None:
    """All but three were refused, with the advice to choose another family."""
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"_class_name": name, "solver_order": 2, **BETAS}))
    found = NoiseSchedule(name="DDIMScheduler").load(tmp_path)
    assert torch.equal(found.alphas_cumprod, DDIMScheduler(**BETAS).alphas_cumprod)


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler", "NoSuchScheduler", "UNet"])
def test_a_scheduler_without_such_noise_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(UserError, match=f"holds a {name}, .*backbone.family"):
        NoiseSchedule(name="DDIMScheduler").load(tmp_path)


def test_all_that_a_component_reads_is_in_its_fingerprint(model: Path) -> None:
    """Another merges.txt made other tokens, and almost every pixel another one, at the same address."""
    shutil.rmtree(model / "tokenizer")
    tokenizer = clip_tokenizer()
    tokenizer.save_pretrained(model / "tokenizer")
    saved = json.loads((model / "tokenizer" / "tokenizer.json").read_text())["model"]
    (model / "tokenizer" / "tokenizer.json").unlink()
    vocab = {**saved["vocab"], "do": 1000, "ca": 1001}
    (model / "tokenizer" / "vocab.json").write_text(json.dumps(vocab))
    (model / "tokenizer" / "merges.txt").write_text("#version: 0.2\nd o\n")
    add_to(model / "tokenizer" / "tokenizer_config.json", model_max_length=16)
    opened: set[Path] = set()
    watching = True

    def watch(event: str, arguments: tuple) -> None:
        if watching and event == "open" and isinstance(arguments[0], str) and str(model) in arguments[0]:
            opened.add(Path(arguments[0]))

    sys.addaudithook(watch)
    for name, component in UNetBackbone.COMPONENTS.items():
        component.load(model / name)
    watching = False
    known = set(component_files(model, UNetBackbone.COMPONENTS))
    assert "config.json" in {path.name for path in opened}
    assert {path for path in opened if path.is_file()} <= known
    before = fingerprint_of(model, UNetBackbone.COMPONENTS)
    (model / "tokenizer" / "merges.txt").write_text("#version: 0.2\nc a\n")
    assert fingerprint_of(model, UNetBackbone.COMPONENTS) != before


def add_to(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_tokenizer_without_a_window_is_refused_wherever_it_is_loaded(model: Path) -> None:
    """The doctor passed it, and the run ended in OverflowError."""
    file = model / "tokenizer" / "tokenizer_config.json"
    stated = json.loads(file.read_text())
    del stated["model_max_length"]
    file.write_text(json.dumps(stated))
    component = ClipTokenizer()
    for load in (component.load, component.check, component.empty):
        with pytest.raises(UserError, match="tokenizer_config.json states no model_max_length.*77 for CLIP"):
            load(model / "tokenizer")


def test_weights_in_another_precision_and_in_pickles_say_the_way_out(model: Path) -> None:
    unet = model / "unet"
    plain = unet / "diffusion_pytorch_model.safetensors"
    half = unet / "diffusion_pytorch_model.fp16.safetensors"
    plain.rename(half)
    with pytest.raises(UserError, match="no plain safetensors file; set backbone.precision to fp16, which it has"):
        load_backbone(settings(model), "cpu")
    half.rename(unet / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"no plain safetensors file; it has diffusion_pytorch_model.bin, .*save_pretr"):
        load_backbone(settings(model), "cpu")


def test_one_component_in_half_precision_and_the_rest_plain(model: Path) -> None:
    """As diffusers loads it; the text encoder, which has no fp16 file, was "missing"."""
    weights = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    half = model / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    save_file({name: (value / 2).half() for name, value in weights.items()}, half)
    loaded = load_backbone(settings(model, precision="fp16"), "cpu")
    assert torch.allclose(loaded.parts["unet"].conv_in.weight, weights["conv_in.weight"].float() / 2, atol=1e-4)
    plain = load_backbone(settings(model), "cpu")
    assert torch.equal(plain.parts["unet"].conv_in.weight, weights["conv_in.weight"].float())
    assert plain.fingerprint == load_backbone(settings(SHIPPED / "mini-sd"), "cpu").fingerprint != loaded.fingerprint


@pytest.mark.parametrize(("name", "scheduler"), [("spright", "DDIMScheduler"), ("tokencompose", "PNDMScheduler")])
def test_a_fine_tuned_pipeline_with_all_that_its_repository_has(
    model: Path, name: str, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pickles and half-precision copies beside the weights, a filter of images, another scheduler."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import filter_repo_objects

    index = json.loads((model / "model_index.json").read_text())
    filters = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    (model / "model_index.json").write_text(json.dumps(index | filters | {"scheduler": ["diffusers", scheduler]}))
    add_to(model / "scheduler" / "scheduler_config.json", _class_name=scheduler)
    for part in ("unet", "vae", "text_encoder"):
        weights = next((model / part).glob("*.safetensors"))
        weights.with_suffix(".bin").write_bytes(b"no pickle is read")
        weights.with_suffix(".fp16.safetensors").write_bytes(b"nor another precision")
    found = {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()}
    run = load_run_config("sd21", {"backbone": name})
    with pytest.raises(UserError, match=f"no model '{run.backbone.model}': .*HF_HUB_OFFLINE=0 fetches one"):
        model_folder(run.backbone)
    calls: list[dict] = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda _, **given: calls.append(given) or str(model))
    small = run.backbone.model_copy(update={"size": 64, "steps": 4})
    assert check_backbone(small).denoiser.device.type == "meta"
    loaded = load_backbone(small, "cpu")
    shipped = load_backbone(settings(SHIPPED / "mini-sd"), "cpu")
    for part, weights in loaded.parts["unet"].state_dict().items():
        assert torch.equal(weights, shipped.parts["unet"].state_dict()[part])
    extra = {"safety_checker/model.safetensors", "v1-4-pruned.ckpt", "README.md"}
    fetched = set(filter_repo_objects(found | extra, **calls[0]))
    assert fetched == {path for path in found if not path.endswith((".bin", ".fp16.safetensors"))}
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="/unet has no plain safetensors file; set backbone.precision to fp16"):
        check_backbone(small)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone.steps": 600}, "backbone.steps is 600"),
        ({"capture.layers": ["zzz"]}, "no cross-attention layer matches 'zzz' of capture.layers; allowed names: "),
        ({"capture.layers": ["mid*", "zzz"]}, "no cross-attention layer matches 'zzz'"),
        ({"backbone.size": 17}, "backbone.size is 17; it must be a multiple of"),
    ],
)
@pytest.mark.parametrize("make", [backbone_without_weights, check_backbone])
def test_what_a_model_cannot_do_is_known_without_its_weights(make, changes: dict, message: str) -> None:
    config = load_run_config("mini-sd", changes)
    with pytest.raises(UserError, match=message):
        require_reach(make(config.backbone), config)
