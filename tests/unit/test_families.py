"""Every family on tiny random weights, loaded from a folder as published weights are.

Exact capture, right gradients.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import pixel_unshuffle

from l2s_core.attention.layers import AttentionLayer
from l2s_core.attention.pooling import pool_maps
from l2s_core.attention.probabilities import phrase_attention_reference
from l2s_core.attention.reader import AttentionReader
from l2s_core.attention.reference import watching_attention
from l2s_core.backbones.architecture import architecture_names, load_architecture, save_random_model
from l2s_core.backbones.flux import pack
from l2s_core.backbones.hub import hub_folder
from l2s_core.backbones.load import (
    load_backbone,
    model_fingerprint,
    phrase_check,
    require_fit,
    window_fingerprint,
)
from l2s_core.backbones.model import DiffusersModel, chat_template, tokenized
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.model import build_classifier
from l2s_core.config import BackboneConfig, CaptureConfig, ClassifierConfig, load_run_config
from l2s_core.data.scenes import Scene
from l2s_core.dataset.collect import collect_maps, map_source
from l2s_core.diffusion.inversion import psnr
from l2s_core.diffusion.noise import invert_scenes
from l2s_core.diffusion.sampler import Batch
from l2s_core.diffusion.sampling import initial_noise, sample
from l2s_core.errors import UserError
from l2s_core.experiments.evidence import PROMPTS, capture_error
from l2s_core.interface.pipelines import backbone_of
from l2s_core.prompts.prompt import prompt_for
from l2s_core.sizes import Size, sides
from l2s_core.steering.steering import steer_by

TEXTS = [p.text for p in PROMPTS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: save_random_model(load_architecture(name), root / name) for name in architecture_names()}


WIDE = (64, 96)  # pixels, of images that are not square


def load(folders: dict[str, Path], name: str, **settings):
    family = load_architecture(name).family
    given = {"size": 64, "steps": 4, "guidance": 1.0} | settings
    return load_backbone(BackboneConfig(model=str(folders[name]), family=family, **given), "cpu")


SHARED = {
    "sd14": "unet",
    "sdxl": "sdxl",
    "flux-schnell": "flux",
    "flux2-klein-4b": "flux2",
    "flux2-dev": "flux2-dev",
    "sd35-medium": "sd3",
    "pixart-sigma": "pixart",
    "sana": "sana",
    "sana-sprint": "sana-sprint",
    "z-image-turbo": "zimage",
    "qwen-image": "qwen-image",
}  # one model a family


@pytest.mark.parametrize("family", SHARED.values())
@pytest.mark.parametrize("name", SHARED)
def test_a_model_is_loaded_as_its_own_family_alone(folders, name: str, family: str) -> None:
    settings = BackboneConfig(model=str(folders[name]), family=family, size=64, steps=4, guidance=1.0)
    if SHARED[name] == family:
        assert load_backbone(settings, "cpu").latent_shape[0] == 4
        return
    with pytest.raises(UserError, match="backbone.family"):
        load_backbone(settings, "cpu")


def test_the_unet_of_another_family_is_refused(folders, tmp_path: Path) -> None:
    """SDXL's folder has all components of Stable Diffusion 1.x, of the same classes.

    It ended in TypeError at the first prediction.
    """
    with pytest.raises(
        UserError, match="/unet has addition_embed_type 'text_time', expected None; choose the backbone.family"
    ):
        load_backbone(BackboneConfig(model=str(folders["sdxl"]), family="unet", size=64, steps=4, guidance=1.0), "cpu")
    mixed = shutil.copytree(folders["sdxl"], tmp_path / "m")
    shutil.copytree(folders["sd14"] / "unet", mixed / "unet", dirs_exist_ok=True)
    with pytest.raises(UserError, match="/unet has addition_embed_type None, expected 'text_time'"):
        load_backbone(BackboneConfig(model=str(mixed), family="sdxl", size=64, steps=4, guidance=1.0), "cpu")


@pytest.mark.parametrize(("dtype", "size"), [("float32", WIDE), ("bfloat16", 64)])
@pytest.mark.parametrize("name", architecture_names())
def test_capture_is_exact_and_leaves_the_output_alone(folders, name: str, dtype: str, size: Size) -> None:
    backbone = load(folders, name, dtype=dtype, size=size)
    for softmax in backbone.SOFTMAXES:
        same, difference = capture_error(backbone, softmax)
        assert same and difference < 1e-6


def unmasked(layer: AttentionLayer) -> AttentionLayer:
    """The layer, read without its mask."""

    @wraps(layer.read)
    def read(*outputs, **named):
        return layer.read(*outputs, **named)._replace(mask_B1K=None)

    return replace(layer, read=read)


RAGGED = [prompt_for(PROMPTS[0].triplet, prefix="a photo of " * 8), PROMPTS[1]]
"""Prompts of which one has over 32 tokens, so that the other is filled up."""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("softmax", ["text", "joint"])
def test_texts_of_different_lengths_in_a_batch_are_read_with_the_mask_of_all_of_them(
    folders, softmax: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(folders, "z-image-turbo", dtype=dtype)
    same, difference = capture_error(backbone, softmax, RAGGED)
    assert same and difference < 1e-6
    right = backbone.layers(softmax)
    monkeypatch.setattr(backbone, "_layers", lambda joint: [unmasked(layer) for layer in right])
    assert capture_error(backbone, softmax, RAGGED)[1] > 1e-4


@torch.no_grad()
def test_an_image_that_is_filled_up_to_whole_blocks_of_tokens_has_maps_of_its_own_tokens(folders) -> None:
    """80 pixels are 100 image tokens, and 28 more before the text."""
    backbone = load(folders, "z-image-turbo", size=80)
    latents = initial_noise([0, 1], backbone.latent_shape)
    weights_BOK, condition = backbone.phrase_weights(RAGGED), backbone.encode_prompts([p.text for p in RAGGED])
    with watching_attention() as calls:
        backbone.predict(latents, 0.5, condition)
    expected = [
        phrase_attention_reference(query[:, :, :100], key[:, :, 128:], weights_BOK, mask[..., 128:])
        for query, key, mask in calls
        if query.shape[2] > 128
    ]
    maps_BOMGG = AttentionReader(backbone).read(latents, 0.5, condition, weights_BOK)
    assert len(expected) == 2 and (maps_BOMGG - pool_maps(expected, 16)).abs().max() < 1e-6


@pytest.mark.parametrize(
    "name", [name for name in SHARED if SHARED[name] in ("pixart", "sana", "sana-sprint", "qwen-image")]
)
def test_maps_that_leave_the_mask_of_the_text_out_are_told_from_right_ones(
    folders, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of the window is padding there: the maps of a reader without the mask were wrong without a word."""
    backbone = load(folders, name)
    right = backbone.layers()
    assert capture_error(backbone)[1] < 1e-6
    monkeypatch.setattr(backbone, "_layers", lambda joint: [unmasked(layer) for layer in right])
    assert capture_error(backbone)[1] > 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inversion.method": "rectified-flow"}, r"needs a flow model \(flux, .*sd3.*\), not family unet"),
        ({"capture.softmax": "joint"}, "capture.softmax is 'joint', but UNetBackbone .*; set it to text"),
    ],
)
def test_settings_that_a_family_does_not_go_with_are_refused_before_anything_runs(settings, message: str) -> None:
    run = load_run_config("mini-sd", settings)
    with pytest.raises(UserError, match=message):
        require_fit(run)
    require_fit(load_run_config("mini-flux", settings))


def test_a_model_that_noises_afresh_has_scenes_noised_and_nothing_else(folders) -> None:
    """Fixed-point inversion would follow steps backwards that nobody samples."""
    ours = {"backbone": "sana-sprint", "backbone.steps": 4, "capture.steps": [1], "steering.until_step": 2}
    noised = {**ours, "inversion.method": "rectified-flow"}
    require_fit(load_run_config("mini-sd", noised))
    for changes in (ours, {**noised, "inversion.eta": 0.5}, {**noised, "inversion.start": 1}):
        with pytest.raises(
            UserError, match="sana-sprint draws fresh noise at every step.*rectified-flow.*trajectories"
        ):
            require_fit(load_run_config("mini-sd", changes))
    require_fit(load_run_config("mini-sd", {**ours, "classifiers": {}, "classifier.maps": "trajectories"}))
    backbone = load(folders, "sana-sprint")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    scene = Scene(image_id="a", split="train", image=image, triplet=PROMPTS[0].triplet)
    how = load_run_config("mini-sd", noised).inversion
    shard = invert_scenes(backbone, [scene], how, steps=4, batch=2)
    records = collect_maps(
        backbone, shard, {"a": image}, map_source(backbone, CaptureConfig(steps=(1,), grid=4), 4), batch=2
    ).records
    alone = psnr(torch.from_numpy(backbone.decode(backbone.encode_images(image[None]))), torch.from_numpy(image[None]))
    assert [record.psnr for record in records] == [pytest.approx(alone.item(), abs=0.1)] * 2
    with pytest.raises(UserError, match="cannot be steered from outside"):
        backbone.from_pipeline(torch.zeros(1, *backbone.latent_shape))


def test_fresh_noise_is_an_images_own(folders) -> None:
    """Whatever its batch; another one at every step."""
    backbone = load(folders, "sana-sprint")
    z = initial_noise([0, 1, 2], backbone.latent_shape)
    together = backbone.sampling(4).begin(z)
    alone = backbone.sampling(4).begin(z[1:2])
    assert torch.equal(together.fresh(z, 1)[1:2], alone.fresh(z[1:2], 1))
    draws = torch.cat([together.fresh(z, 0), together.fresh(z, 1), z]).flatten(1)
    assert torch.corrcoef(draws).fill_diagonal_(0).abs().max() < 0.3 and abs(draws.std().item() - 1) < 0.05
    assert backbone.sampling(2).timesteps == backbone.schedule(2).timesteps != backbone.sampling(4).timesteps[:2]


def loss_of(backbone: DiffusersModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """A loss of latents (B, C, h, w) that the maps of the prompts decide, (B)."""
    condition = backbone.encode_prompts(TEXTS)
    weights_BOK = backbone.phrase_weights(PROMPTS)
    timestep = backbone.schedule(4).timesteps[1]
    reader = AttentionReader(backbone)

    def loss(z: torch.Tensor) -> torch.Tensor:
        return (reader.read(z, timestep, condition, weights_BOK) * 256).square().flatten(1).mean(1)

    return loss


@pytest.mark.parametrize("name", ["flux-schnell", "sana"])
def test_a_size_that_a_family_cannot_make_is_one_line_with_those_near_it(folders, name: str) -> None:
    with pytest.raises(UserError) as error:
        load(folders, name, size=(60, 97))
    line = str(error.value)
    assert line.startswith("backbone.size is [60, 97]; it must be a multiple of ") and "\n" not in line
    for near in line.partition("near it: ")[2].removesuffix("]").split("], "):
        size = tuple(int(side) for side in near.removeprefix("[").split(", "))
        assert load(folders, name, size=size).image_sides == size


def test_sd3_has_positions_for_so_many_pixels_a_side(folders) -> None:
    with pytest.raises(UserError, match="backbone.size is 64 × 256; this model has positions for 128 pixels a side at"):
        load(folders, "sd35-medium", size=(64, 256))


def test_a_unet_has_no_joint_softmax(folders) -> None:
    with pytest.raises(UserError, match="capture.softmax is 'joint'"):
        load(folders, "sd14").layers("joint")


def _double(argument: object) -> object:
    return torch.float64 if argument is torch.float32 else argument


@pytest.mark.parametrize("name", architecture_names())
def test_the_gradient_is_the_slope_with_and_without_checkpointing(
    folders, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Central differences in float64 of a loss on the captured maps; checkpointing changes no value.

    What a model computes in float32 whatever its type, as linear attention and norms, is in float64, too.
    """
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda *args, **named: to(*map(_double, args), **{key: _double(value) for key, value in named.items()}),
    )
    gradients = []
    for checkpointing in (False, True):
        backbone = load(folders, name, checkpointing=checkpointing, size=WIDE if name in ("sd14", "flux-dev") else 64)
        for module in backbone.modules.values():
            module.double()
        loss = loss_of(backbone)
        z = initial_noise([0, 1], backbone.latent_shape).double().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(z).sum(), z)
        gradients.append(gradient)
        norm_B = gradient.flatten(1).norm(dim=1)
        direction = gradient / norm_B.view(-1, 1, 1, 1)
        with torch.no_grad():
            slope_B = (loss(z + 1e-3 * direction) - loss(z - 1e-3 * direction)) / 2e-3
        assert torch.allclose(slope_B, norm_B, rtol=1e-4), (slope_B, norm_B)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-7 * gradients[0].abs().max().item())


UNET_EXTRAS = {"safety_checker": None, "feature_extractor": None}
SHORT_T5 = {"max_sequence_length": 24}
LATENTS = {
    "FluxPipeline": pack,
    "QwenImagePipeline": pack,
    "Flux2KleinPipeline": lambda z: pixel_unshuffle(z, 2),
    "Flux2Pipeline": lambda z: pixel_unshuffle(z, 2),
}
"""What the latents are to a pipeline that has them packed."""
GUIDANCE = {"flux-schnell": (0.0, 1.0), "z-image-turbo": (2.5, 3.5)}
"""The pipeline's and ours that mean the same: none, and what Z-Image's counts from 0."""
PIPELINES = {
    "sd14": ("StableDiffusionPipeline", UNET_EXTRAS, {}),
    "sd21-768": ("StableDiffusionPipeline", UNET_EXTRAS, {}),
    "sdxl": ("StableDiffusionXLPipeline", {}, {}),
    "flux-schnell": ("FluxPipeline", {}, SHORT_T5),
    "flux-dev": ("FluxPipeline", {}, SHORT_T5),
    "flux2-klein-4b": ("Flux2KleinPipeline", {"is_distilled": True}, {"max_sequence_length": 48}),
    "flux2-klein-9b": ("Flux2KleinPipeline", {"is_distilled": False}, {"max_sequence_length": 48}),
    "flux2-dev": ("Flux2Pipeline", {}, {"max_sequence_length": 64}),
    "z-image-turbo": ("ZImagePipeline", {}, {"max_sequence_length": 48}),
    "sd35-medium": ("StableDiffusion3Pipeline", {}, SHORT_T5),
    "pixart-sigma": (
        "PixArtSigmaPipeline",
        {},
        {**SHORT_T5, "clean_caption": False, "use_resolution_binning": False},
    ),
    "sana": ("SanaPipeline", {}, {**SHORT_T5, "use_resolution_binning": False}),
    "sana-sprint": (
        "SanaSprintPipeline",
        {},
        {**SHORT_T5, "use_resolution_binning": False, "intermediate_timesteps": None},
    ),
    "qwen-image": (
        "QwenImagePipeline",
        {},
        {"max_sequence_length": 32, "true_cfg_scale": 3.5, "negative_prompt": ["", ""]},
    ),
}


TWICE = ("sd14", "flux-schnell", "flux2-klein-4b")
"""Of these families another model shows square images."""


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "size"), [*((name, 64) for name in PIPELINES if name not in TWICE), *((name, WIDE) for name in SHARED)]
)
def test_sampling_matches_diffusers_own_pipeline(
    folders, name: str, size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images to one grey level, and what they are decoded from: some tiny autoencoders hide most differences."""
    import diffusers

    kind, extras, calling = PIPELINES[name]
    backbone = load(folders, name, size=size)
    backbone.settings |= extras
    for statistics in backbone.vae.buffers():  # of an untrained autoencoder: mean 0 and variance 1, which tell nothing
        if statistics.is_floating_point():
            statistics.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(len(statistics)))
    pipeline = getattr(diffusers, kind)(**backbone.parts, **extras)
    pipeline.set_progress_bar_config(disable=True)
    theirs_guidance, ours_guidance = GUIDANCE.get(name, (3.5, 3.5))
    texts = [prompt.text for prompt in RAGGED] if name == "z-image-turbo" else TEXTS
    decoded: list[torch.Tensor] = []
    decode = backbone.vae.decode
    monkeypatch.setattr(backbone.vae, "decode", lambda z, **options: (decoded.append(z), decode(z, **options))[1])
    z = initial_noise([3, 4], backbone.latent_shape)
    if backbone.RENOISES:
        drawn = backbone.sampling(4).begin(z)
        noise = (drawn.fresh(z, step) for step in range(4))
        monkeypatch.setattr(diffusers.schedulers.scheduling_scm, "randn_tensor", lambda *_, **__: next(noise))
    theirs = pipeline(
        prompt=list(texts),
        latents=LATENTS.get(kind, lambda z: z)(z),
        num_inference_steps=4,
        guidance_scale=theirs_guidance,
        **dict(zip(("height", "width"), sides(size), strict=True)),
        output_type="np",
        **calling,
    ).images
    ours = backbone.decode(
        sample(backbone, z, backbone.encode_prompts(texts, guidance=ours_guidance), backbone.sampling(4))
    )
    assert torch.allclose(*decoded, rtol=0, atol=1e-4 * decoded[0].std().item())
    assert np.abs(theirs * 255 - ours).max() <= 1.01


@torch.no_grad()
def test_guidance_of_one_or_less_is_none_and_a_models_input_is_what_was_set(folders) -> None:
    """FLUX.1-schnell drew the empty prompt at diffusers' guidance for none, 0, and FLUX.1-dev at 1 took 0 for it."""
    drawn = {}
    for name in ("flux-schnell", "sd14", "flux-dev"):
        backbone = load(folders, name)
        z = initial_noise([0, 1], backbone.latent_shape)
        timestep = backbone.schedule(4).timesteps[1]
        for guidance in (None, 0.0, 0.5, 1.0, 2.0):
            drawn[name, guidance] = backbone.predict(z, timestep, backbone.encode_prompts(TEXTS, guidance=guidance))
        drawn[name, "stripped"] = backbone.predict(z, timestep, backbone.encode_prompts(TEXTS, guidance=3.5).unguided())
    for name in ("flux-schnell", "sd14"):
        assert all(torch.equal(drawn[name, None], drawn[name, same]) for same in (0.0, 0.5, 1.0, "stripped"))
        assert not torch.allclose(drawn[name, None], drawn[name, 2.0])
    of_dev = [drawn["flux-dev", guidance] for guidance in (0.0, 0.5, 1.0, 2.0)]
    assert torch.equal(drawn["flux-dev", None], of_dev[0]) and torch.equal(drawn["flux-dev", "stripped"], of_dev[0])
    assert all(not torch.equal(a, b) for a, b in pairwise(of_dev))


@torch.no_grad()
def test_offloading_and_slicing_change_no_value(folders) -> None:
    results = []
    for settings in ({}, {"offload": True, "vae_slicing": True}):
        backbone = load(folders, "flux-dev", **settings)
        z = initial_noise([0, 1], backbone.latent_shape)
        results.append(
            backbone.decode(sample(backbone, z, backbone.encode_prompts(TEXTS, guidance=3.5), backbone.schedule(3)))
        )
    assert np.array_equal(*results)


@pytest.mark.parametrize("name", ["flux-dev", "flux-schnell"])
def test_latents_of_bfloat16_are_rounded_after_every_step_and_update(folders, name: str) -> None:
    """As in the paper's FLUX: a step in float32, rounded; an update in bfloat16. Ours keep float32 between passes."""
    assert load_run_config(name).backbone.latents_dtype == "bfloat16"
    assert load_run_config("sd21").backbone.dtype == load_run_config("sd14").backbone.dtype == "float32"
    backbone = load(folders, name, latents_dtype="bfloat16")
    assert backbone.encode_images(np.zeros((1, 64, 64, 3), np.uint8)).dtype == torch.bfloat16
    batch = Batch.of(backbone, PROMPTS, steps=4, guidance=1.0)
    seen: list[torch.Tensor] = []

    def watch(latents: torch.Tensor, step: int) -> torch.Tensor:
        seen.append(latents)
        return latents

    noise = initial_noise([1, 2], backbone.latent_shape, dtype=torch.bfloat16)
    last = sample(backbone, noise, batch.condition, batch.schedule, [watch])
    sigmas = [*batch.schedule.timesteps, 0.0]
    for step, (before, after) in enumerate(pairwise([*seen, last])):
        with torch.no_grad():
            velocity = backbone.predict(before, sigmas[step], batch.condition)
        exact = before.double() + (sigmas[step + 1] - sigmas[step]) * velocity.double()
        half_of_the_last_bit = exact.abs() * 2.0**-8 + 1e-6
        assert after.dtype == torch.bfloat16 and ((after.double() - exact).abs() <= half_of_the_last_bit).all()

    run = load_run_config(name)
    source = map_source(backbone, CaptureConfig(steps=(1,), grid=4), 4)
    network = build_classifier(ClassifierConfig(kind="conv", width=8), source).eval().requires_grad_(False)
    classifier = TrainedClassifier(model=network, config=ClassifierConfig(kind="conv", width=8), source=source)
    rule = run.steering.model_copy(update={"until_step": 1, "updates": 1, "step_size": 1e3, "guidance": None})
    steer = steer_by(classifier, rule)(batch)
    moving = noise.clone().requires_grad_(True)
    loss = steer._loss(moving, torch.arange(2), 0, steer.targets).sum()
    (gradient,) = torch.autograd.grad(loss, moving)
    moved = steer(noise, 0)
    assert gradient.dtype == moved.dtype == torch.bfloat16 and not torch.equal(moved, noise)
    assert torch.equal(moved, noise - 1e3 * gradient)


@torch.no_grad()
@pytest.mark.parametrize("distilled", [True, False])
def test_a_loaded_flux2_pipeline_is_taken_with_its_settings_statistics_and_latents(folders, distilled: bool) -> None:
    from diffusers import Flux2KleinPipeline

    pipeline = Flux2KleinPipeline(**load(folders, "flux2-klein-4b").parts, is_distilled=distilled)
    pipeline.vae.bn.running_mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    pipeline.vae.bn.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
    backbone = backbone_of(pipeline, 64)
    assert backbone.classifier_free is not distilled
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    ours, theirs = backbone.encode_images(images), pipeline._pack_latents(pipeline._encode_vae_image(pixels, None))
    assert torch.allclose(backbone.to_pipeline(ours), theirs, atol=1e-5)
    assert torch.allclose(backbone.from_pipeline(theirs), ours, atol=1e-5)


@dataclass
class Processor:
    """As far as a pipeline of FLUX.2 [dev] has one without images."""

    tokenizer: Any
    chat_template: str


def test_a_flux2_dev_pipelines_processor_is_its_tokenizer_with_the_processors_template(folders) -> None:
    """Published folders hold a processor of images and texts, in which a pipeline has the tokenizer."""
    from diffusers import Flux2Pipeline

    pipeline = Flux2Pipeline(**load(folders, "flux2-dev").parts)
    expected = backbone_of(pipeline, 64).encode_prompts(TEXTS)
    template, pipeline.tokenizer.chat_template = pipeline.tokenizer.chat_template, None
    with pytest.raises(UserError, match="of no family"):
        backbone_of(pipeline, 64)
    pipeline.tokenizer = Processor(tokenizer=pipeline.tokenizer, chat_template=template)
    found = backbone_of(pipeline, 64)
    assert torch.equal(found.encode_prompts(TEXTS).text.context_BKD, expected.text.context_BKD)
    assert pipeline.tokenizer.tokenizer.chat_template is None and not found.classifier_free


def test_a_chats_template_is_part_of_a_model_and_its_phrases_are_found_there(
    folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer that states 131,072 tokens, as Qwen's does, gets the family's window of 512."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import filter_repo_objects

    folder = shutil.copytree(folders["flux2-klein-4b"], tmp_path / "m")
    settings = BackboneConfig(model=str(folder), family="flux2", size=64, steps=4, guidance=1.0)
    stated = folder / "tokenizer" / "tokenizer_config.json"
    stated.write_text(stated.read_text().replace('"model_max_length": 48', '"model_max_length": 131072'))
    template = folder / "tokenizer" / "chat_template.jinja"
    before = model_fingerprint(settings), window_fingerprint(settings)
    template.write_text(template.read_text().replace("<|im_start|>{{", "cat, dog<|im_start|>{{"))
    assert model_fingerprint(settings) != before[0] and window_fingerprint(settings) != before[1]

    backbone = load_backbone(settings, "cpu")
    assert backbone.phrase_weights(PROMPTS).shape[-1] == 512
    tokenizer = backbone.parts["tokenizer"]
    chats = [chat_template(tokenizer, enable_thinking=False)(text) for text in TEXTS]
    for tokenizer.padding_side in ("right", "left"):
        weights_BOK = backbone.phrase_weights(PROMPTS)
        for rows, ids, prompt in zip(weights_BOK, tokenized(tokenizer, chats, 512)[0], PROMPTS, strict=True):
            assert [tokenizer.decode(ids[row > 0]).strip() for row in rows] == list(prompt.objects)
    with pytest.raises(UserError, match="'hot dog' of .* is cut off by the text window of 512 tokens"):
        phrase_check(settings)([prompt_for(PROMPTS[0].triplet, prefix="a dog, " * 200)])

    calls: list[dict] = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda _model, **patterns: calls.append(patterns) or str(folder)
    )
    hub_folder("some/model", ["tokenizer"])
    assert list(filter_repo_objects(["tokenizer/chat_template.jinja", "chat_template.jinja"], **calls[0])) == [
        "tokenizer/chat_template.jinja"
    ]
    template.unlink()
    with pytest.raises(UserError, match="/tokenizer has no chat template"):
        load_backbone(settings, "cpu")
