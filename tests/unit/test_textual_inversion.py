"""Textual inversion by configuration: new tokens as diffusers itself adds them, and part of what a model is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

import l2s_core as l2s
from l2s_core.backbones.architecture import load_architecture, save_random_model
from l2s_core.backbones.folder import INDEX, SHIPPED
from l2s_core.backbones.load import (
    check_backbone,
    load_backbone,
    model_fingerprint,
    phrase_check,
    require_fit,
    window_fingerprint,
)
from l2s_core.config import BackboneConfig, load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.run import Run
from l2s_core.interface.pipelines import backbone_of
from l2s_core.prompts.prompt import parse_several
from l2s_core.storage.files import read_json, write_json

TOKEN = "<my-dog>"
PROMPT = f"a photo of {TOKEN} to the left of a cat"
WIDTH = 128  # numbers a vector of mini-sd's text encoder


def drawn(vectors: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(vectors, width, generator=torch.Generator().manual_seed(seed)).squeeze(0)


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(SHIPPED / "mini-sd")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def learned(tmp_path: Path) -> Path:
    """Three vectors of one token for mini-sd."""
    return saved(tmp_path / "learned.safetensors", {TOKEN: drawn(3, WIDTH)})


def saved(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path)
    return path


def given(path: Path, token: str = TOKEN) -> dict[str, list[dict[str, str]]]:
    return {"backbone.textual_inversion": [{"path": str(path), "token": token}]}


def backbone_config(path: Path, token: str = TOKEN, model: str = "mini-sd") -> BackboneConfig:
    return load_run_config(model, given(path, token)).backbone


@pytest.mark.parametrize("vectors", [1, 3])
def test_a_token_does_what_it_does_in_diffusers_own_pipeline(tmp_path: Path, vectors: int) -> None:
    path = saved(tmp_path / "learned.safetensors", {"<another>": drawn(vectors, WIDTH)})
    pipeline = StableDiffusionPipeline.from_pretrained(SHIPPED / "mini-sd")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_textual_inversion(path.parent, weight_name=path.name, token=TOKEN)
    model = l2s.load("mini-sd", settings=given(path))
    ours = model(PROMPT, seeds=[3], steps=4, steer=False, negative_prompt=f"a {TOKEN}")
    theirs = pipeline(
        PROMPT,
        negative_prompt=f"a {TOKEN}",
        generator=torch.Generator().manual_seed(3),
        num_inference_steps=4,
        guidance_scale=model.run.backbone.guidance,
        output_type="np",
    ).images
    assert np.abs(theirs * 255 - np.asarray(ours.pixels)).max() <= 1.01
    of_dogs = model(PROMPT.replace(TOKEN, "dog"), seeds=[3], steps=4, steer=False)
    assert np.abs(np.asarray(of_dogs.pixels, np.float64) - np.asarray(ours.pixels)).mean() > 2


def test_a_phrase_has_all_vectors_of_its_token_and_is_steered(learned: Path) -> None:
    prompt = parse_several(PROMPT)
    assert prompt.objects == (TOKEN, "cat")
    shown = [given(learned)["backbone.textual_inversion"][0] | {"shows": "dog"}]
    settings = {"backbone.textual_inversion": shown, "steering.until_step": 1, "steering.updates": 1}
    model = l2s.load("mini-sd", settings=settings)
    subject, object_ = model.backbone.phrase_weights([prompt])[0]
    assert torch.equal(subject.nonzero().flatten(), torch.tensor([4, 5, 6]))  # behind the start, "a", "photo", "of"
    assert torch.allclose(subject.sum(), torch.tensor(1.0)) and subject[4] == subject[6]
    assert torch.equal(object_.nonzero().flatten(), torch.tensor([12]))
    result = model(PROMPT, seeds=[0])
    assert result.gradients == [1] and result.prompt == prompt
    assert [judged.objects for judged in result.judge()] == [("dog", "cat")]
    with pytest.raises(UserError, match="two objects that are called 'dog' alike; name another object"):
        model(f"a {TOKEN} above a dog", seeds=[0], steps=2, steer=False).judge()


def test_prompts_are_checked_with_the_token(learned: Path) -> None:
    prompts = [parse_several(PROMPT)]
    phrase_check(backbone_config(learned))(prompts)
    many = saved(learned.parent / "many.safetensors", {TOKEN: drawn(24, WIDTH)})
    with pytest.raises(UserError, match="the phrase 'cat' of 'a photo of <my-dog> .*' is cut off by the text window"):
        phrase_check(backbone_config(many))(prompts)


def test_a_token_and_its_vectors_are_part_of_what_a_model_is_and_of_every_address(learned: Path, pipeline) -> None:
    plain = load_run_config("mini-sd").backbone
    assert "textual_inversion" not in plain.model_dump()
    other = saved(learned.parent / "other.safetensors", {TOKEN: drawn(3, WIDTH, seed=1)})
    configs = [plain, backbone_config(learned), backbone_config(other), backbone_config(learned, "<my-cat>")]
    assert len({model_fingerprint(config) for config in configs}) == len(configs)
    assert len({window_fingerprint(config) for config in configs}) == len(configs)
    model = load_backbone(configs[1], "cpu")
    assert model.fingerprint == model_fingerprint(configs[1]) and model.files_fingerprint == model_fingerprint(plain)
    assert not any(parameter.requires_grad for parameter in model.parts["text_encoder"].parameters())
    runs = [Run.of(load_run_config("mini-sd", settings), learned.parent) for settings in ({}, given(learned))]
    for stage in ("noise", "maps"):
        assert len({getattr(run.paths, stage) for run in runs}) == 2
    before = backbone_of(pipeline).fingerprint
    pipeline.load_textual_inversion(learned.parent, weight_name=learned.name, token=TOKEN)
    assert backbone_of(pipeline).fingerprint != before
    pipeline.unload_textual_inversion()
    assert backbone_of(pipeline).fingerprint == before


def test_both_encoders_of_sdxl_have_their_own_vectors(tmp_path: Path) -> None:
    folder = save_random_model(load_architecture("sdxl"), tmp_path / "sdxl")
    write_json(folder / INDEX, read_json(folder / INDEX) | {"_class_name": "StableDiffusionXLPipeline"})
    plain = BackboneConfig(model=str(folder), family="sdxl", size=64, steps=4, guidance=1.0)
    widths = [
        load_backbone(plain, "cpu").parts[name].get_input_embeddings().weight.shape[1]
        for name in ("text_encoder", "text_encoder_2")
    ]
    vectors = {"clip_l": drawn(2, widths[0]), "clip_g": drawn(2, widths[1], seed=1)}
    path = saved(tmp_path / "learned.safetensors", vectors)

    def with_token(path: Path) -> BackboneConfig:
        return plain.model_copy(update={"textual_inversion": backbone_config(path).textual_inversion})

    model = load_backbone(with_token(path), "cpu")
    for tokenizer, encoder, key in (
        ("tokenizer", "text_encoder", "clip_l"),
        ("tokenizer_2", "text_encoder_2", "clip_g"),
    ):
        added = model.parts[tokenizer].convert_tokens_to_ids([TOKEN, f"{TOKEN}_1"])
        assert torch.equal(model.parts[encoder].get_input_embeddings().weight[added], vectors[key])
    assert (model.phrase_weights([parse_several(PROMPT)])[0, 0] > 0).sum() == 2
    for changed, match in (
        ({"clip_l": vectors["clip_l"]}, "has no vectors 'clip_g' for <my-dog>, but clip_l"),
        (vectors | {"clip_g": drawn(3, widths[1])}, "has 2 and 3 vectors for one token"),
    ):
        with pytest.raises(UserError, match=match):
            load_backbone(with_token(saved(path, changed)), "cpu")


def test_what_cannot_be_added_is_one_clear_line(learned: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "learned_embeds.bin"
    torch.save({TOKEN: drawn(1, WIDTH)}, pickled)
    several = saved(tmp_path / "several.safetensors", {"<a>": drawn(1, WIDTH), "<b>": drawn(1, WIDTH)})
    wide = saved(tmp_path / "wide.safetensors", {TOKEN: drawn(1, WIDTH + 1)})
    for config, match in (
        (backbone_config(pickled), r"learned_embeds.bin is no .safetensors file, .* fetch or save it as .safetensors"),
        (
            backbone_config(tmp_path / "no"),
            "backbone.textual_inversion: no .safetensors file .*no; allowed: such a file",
        ),
        (backbone_config(several), "has no vectors '<my-dog>' for <my-dog>, but <a>, <b>; use one"),
        (
            backbone_config(learned, "dog"),
            "the token dog is in the model's vocabulary already; choose another, as <my-dog>",
        ),
        (backbone_config(wide), f"has vectors of {WIDTH + 1} numbers, but text_encoder of this model has {WIDTH}"),
    ):
        for use in (check_backbone, lambda config: load_backbone(config, "cpu")):
            with pytest.raises(UserError, match=match):
                use(config)
    with pytest.raises(
        UserError, match="backbone.textual_inversion is for unet, sdxl, not for family flux; leave it out"
    ):
        require_fit(load_run_config("mini-flux", given(learned)))
    with pytest.raises(UserError, match=r"textual_inversion.*token"):
        backbone_config(learned, "my dog")
    twice = load_run_config("mini-sd", {"backbone.textual_inversion": given(learned)["backbone.textual_inversion"] * 2})
    with pytest.raises(UserError, match="the token <my-dog> is in the model's vocabulary already"):
        load_backbone(twice.backbone, "cpu")
