"""The Python interface: what it gives is what the command, and diffusers' own pipeline, give."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers.models import gguf_file
from helpers.tracking import mlflow_client

import l2s_core as l2s
from l2s_core.attention.reader import AttentionReader
from l2s_core.backbones.group_offload import groups_of
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.experiment import ClassifierResult
from l2s_core.diffusion.sampler import Sampler
from l2s_core.errors import UserError
from l2s_core.experiments.evidence import capture_error
from l2s_core.interface.classifiers import classifier_folder
from l2s_core.prompts.prompt import parse_several
from l2s_core.steering.steering import steer_by

PROMPT = "a dog to the left of a cat"
SEEDS = [3, 4]
ASSETS = Path(l2s.__file__).parent / "miniworld" / "assets"


def levels(one: object, other: object) -> float:
    """The largest difference of two images or batches, in levels of 255."""
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).max())


@pytest.fixture(scope="module")
def model() -> l2s.SteeredModel:
    return l2s.load("mini-sd", device="cpu")


@pytest.fixture(scope="module")
def result(model) -> l2s.Result:
    return model(PROMPT, seeds=SEEDS)


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(ASSETS / "mini-sd")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def of_pipeline(pipeline) -> l2s.SteeredModel:
    return l2s.load(pipeline, "mini-sd")


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, l2s_core; assert 'load' in dir(l2s_core); print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        _ = l2s.lod


def test_it_gives_what_the_core_gives(model, result) -> None:
    run = model.run
    sampler = Sampler.of(UNetBackbone.from_pretrained("mini-sd"), run)
    classifier = TrainedClassifier.load(ASSETS / "classifiers" / "mini-sd")
    prompts = [parse_several(PROMPT)] * len(SEEDS)
    steered = sampler(prompts, SEEDS, steer_by(classifier, run.steering))
    assert torch.equal(result.pixels, steered.images)
    assert torch.equal(result.plain_pixels, sampler(prompts, SEEDS).images)
    assert result.gradients == steered.observers[0].cost.gradients.tolist() and min(result.gradients) > 0


def test_what_steering_saw_and_the_judge_sees(result) -> None:
    steps = result.steerings[0].config.until_step
    assert result.confidence.shape == (len(SEEDS), steps, 1)
    assert (result.confidence[~np.isnan(result.confidence)] <= 1).all() and (result.confidence[:, -1] > 0.9).all()
    assert [image.size for image in result.images] == [(64, 64)] * len(SEEDS)
    steered, plain = result.judge(), result.judge(plain=True)
    assert [image.objects for image in steered] == [("dog", "cat")] * len(SEEDS)
    assert sum(image.correct for image in steered) >= sum(image.correct for image in plain)
    assert result.comparison().width > 4 * 64


def test_a_pipeline_gives_its_own_images_and_the_same_steered_ones(pipeline, of_pipeline, model, result) -> None:
    ours = of_pipeline(PROMPT, seeds=SEEDS)
    assert torch.equal(ours.pixels, result.pixels)
    theirs = pipeline(
        [PROMPT] * len(SEEDS),
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        num_inference_steps=model.run.backbone.steps,
        guidance_scale=model.run.backbone.guidance,
        output_type="np",
    ).images
    assert levels(theirs * 255, ours.plain_pixels) <= 1.01


def test_a_pipeline_steered_by_the_callback(pipeline, of_pipeline, model, result) -> None:
    steerer = of_pipeline.steerer(PROMPT, images=len(SEEDS))
    made = pipeline(
        [PROMPT] * len(SEEDS),
        latents=steerer(result.noise, 0),
        callback_on_step_end=steerer.on_step_end,
        num_inference_steps=model.run.backbone.steps,
        guidance_scale=model.run.backbone.guidance,
        output_type="np",
    ).images
    assert levels(made * 255, result.pixels) <= 2.01
    assert steerer.cost.gradients.tolist() == result.gradients


def test_lora_weights_of_a_pipeline_change_its_images() -> None:
    """They are in the pipeline's modules, which the backbone shares."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(ASSETS / "mini-sd")
    model = l2s.load(pipeline, config="mini-sd")
    before = model(PROMPT, steer=False, steps=2)
    with torch.no_grad():
        pipeline.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_v.weight.mul_(3)
    assert not torch.equal(before.pixels, model(PROMPT, steer=False, steps=2).pixels)


def test_a_compiled_denoiser_is_steered_as_it_was_before() -> None:
    """Plain steps run compiled; the passes that read attention do not, as compiled code sees no hooks."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(ASSETS / "mini-sd")
    model = l2s.load(pipeline, "mini-sd")
    expected = model(PROMPT, seeds=[3], steps=4)
    compiled_passes = []

    def counted(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]):
        return lambda *values: compiled_passes.append(1) or graph.forward(*values)

    pipeline.unet = torch.compile(pipeline.unet, backend=counted)
    compiled = l2s.load(pipeline, "mini-sd")
    found = compiled(PROMPT, seeds=[3], steps=4)
    assert len(compiled_passes) == 4 and expected.gradients == found.gradients != [0]
    assert levels(found.pixels, expected.pixels) <= 1
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-4)
    assert [layer.name for layer in compiled.backbone.layers()] == [layer.name for layer in model.backbone.layers()]
    assert compiled.backbone.fingerprint == model.backbone.fingerprint
    prompts = [parse_several(PROMPT)]
    condition, weights = compiled.backbone.encode_prompts([PROMPT]), compiled.backbone.phrase_weights(prompts)
    maps, same = (
        AttentionReader(each.backbone).read(found.noise, 500.0, condition, weights) for each in (compiled, model)
    )
    assert torch.equal(maps, same) and maps.shape[2] > 0


def test_weights_that_no_gradient_passes_are_one_clear_line() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(ASSETS / "mini-sd")
    pipeline.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    model = l2s.load(pipeline, "mini-sd")
    assert len(model(PROMPT, steer=False, steps=2)) == 1
    with pytest.raises(UserError, match=r"no gradient passes .* UNet2DConditionModel \(torch.float8_e4m3fn\), so it"):
        model(PROMPT, steps=2)


def of_gguf(folder: Path, tmp_path: Path, kind: str) -> torch.nn.Module:
    """mini-flux's transformer of a GGUF file, as diffusers reads it."""
    from diffusers import FluxTransformer2DModel, GGUFQuantizationConfig

    transformer = FluxTransformer2DModel.from_single_file(
        str(gguf_file(folder / "transformer", tmp_path / "t.gguf", kind)),
        config=str(folder),
        subfolder="transformer",
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
    )
    assert transformer.single_transformer_blocks[0].attn.to_q.weight.dtype is torch.uint8
    return transformer


def of_torchao(folder: Path) -> torch.nn.Module:
    from diffusers import FluxTransformer2DModel, TorchAoConfig

    quantization = pytest.importorskip("torchao.quantization")
    return FluxTransformer2DModel.from_pretrained(
        folder / "transformer",
        quantization_config=TorchAoConfig(quantization.Int8WeightOnlyConfig()),
        torch_dtype=torch.float32,
    )


def of_bitsandbytes(folder: Path) -> torch.nn.Module:
    """The same with bitsandbytes' layers of int8, which diffusers itself puts in on a GPU alone."""
    from diffusers import FluxTransformer2DModel

    library = pytest.importorskip("bitsandbytes")
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    for name, layer in list(transformer.named_modules()):
        if type(layer) is torch.nn.Linear:
            bias = layer.bias is not None
            new = library.nn.Linear8bitLt(layer.in_features, layer.out_features, bias, has_fp16_weights=False)
            new.load_state_dict(layer.state_dict())
            transformer.set_submodule(name, new.to("cpu"))
    return transformer


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "torchao", "bitsandbytes"])
def test_quantised_weights_are_sampled_read_and_steered(kind: str, tmp_path: Path, monkeypatch) -> None:
    """Images are the pipeline's, maps those of its attention, the gradient the slope of a loss on them."""
    from diffusers import FluxPipeline

    folder = ASSETS / "mini-flux"
    if kind.startswith("Q"):
        transformer = of_gguf(folder, tmp_path, kind)
    else:
        transformer = of_torchao(folder) if kind == "torchao" else of_bitsandbytes(folder)
    pipeline = FluxPipeline.from_pretrained(folder, transformer=transformer)
    pipeline.set_progress_bar_config(disable=True)
    model = l2s.load(pipeline, "mini-flux")
    backbone = model.backbone
    ours = model(PROMPT, seeds=[3], steps=4)
    theirs = pipeline(
        PROMPT,
        max_sequence_length=backbone.parts["tokenizer_2"].model_max_length,
        height=64,
        width=64,
        latents=backbone.to_pipeline(ours.noise),
        num_inference_steps=4,
        guidance_scale=model.run.backbone.guidance,
        output_type="np",
    ).images
    assert levels(theirs[0] * 255, ours.plain_pixels[0]) <= 1.01 and min(ours.gradients) > 0
    same, difference = capture_error(backbone)
    assert same and difference < 1e-6

    condition, weights = backbone.encode_prompts([PROMPT]), backbone.phrase_weights([parse_several(PROMPT)])
    reader = AttentionReader(backbone)

    def loss(z: torch.Tensor) -> torch.Tensor:
        return (reader.read(z, 0.7, condition, weights) * 256).square().mean()

    z = ours.noise.requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(z), z)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        slope = (loss(z + 0.05 * direction) - loss(z - 0.05 * direction)) / 0.1
    if kind != "bitsandbytes":  # it rounds what goes in, too: the loss has steps, and the gradient is that without them
        torch.testing.assert_close(slope, gradient.norm(), rtol=3e-3, atol=0)
    if not kind.startswith("Q"):
        return
    monkeypatch.setattr("diffusers.quantizers.gguf.utils.ops", object())
    with pytest.raises(UserError, match="no gradient passes the CUDA kernels for the GGUF weights of this FluxTransf"):
        model(PROMPT, steps=4)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
def test_a_pipeline_under_group_offload_is_steered(kind: str, checkpointing: bool, tmp_path: Path, monkeypatch) -> None:
    """Weights on disk, NaN in memory but for their own pass; the gradient found them gone."""
    from diffusers import FluxPipeline
    from diffusers.hooks.group_offloading import ModuleGroup

    pipeline = FluxPipeline.from_pretrained(ASSETS / "mini-flux")
    model = l2s.load(pipeline, "mini-flux")
    expected = model(PROMPT, seeds=[3], steps=3)
    loaded: dict[ModuleGroup, int] = {}
    load, free = ModuleGroup._onload_from_disk, ModuleGroup._offload_to_disk

    def onload(group: ModuleGroup) -> None:
        load(group)
        loaded[group] = sum(weight.nbytes for weight in group.tensor_to_key)
        together.append(sum(loaded.values()))

    def offload(group: ModuleGroup) -> None:
        free(group)
        loaded.pop(group, None)
        for weight in group.tensor_to_key:
            weight.data.fill_(torch.nan)

    together: list[int] = []
    monkeypatch.setattr(ModuleGroup, "_onload_from_disk", onload)
    monkeypatch.setattr(ModuleGroup, "_offload_to_disk", offload)
    if checkpointing:
        pipeline.transformer.enable_gradient_checkpointing()
    weights = sum(weight.nbytes for weight in pipeline.transformer.parameters())
    pipeline.transformer.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type=kind, num_blocks_per_group=1, offload_to_disk_path=str(tmp_path)
    )
    offloaded = l2s.load(pipeline, "mini-flux")
    found = offloaded(PROMPT, seeds=[3], steps=3)
    assert levels(found.pixels, expected.pixels) <= 1 and levels(expected.pixels, expected.plain_pixels) > 5
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-4)
    assert found.gradients == expected.gradients != [0] and max(together) < weights / 2
    groups_of(pipeline.transformer)[0].stream = "a stream"
    with pytest.raises(UserError, match="group offload with streams may take the weights of this FluxTransformer2DMod"):
        offloaded(PROMPT, steps=3)


def test_a_flux_pipeline_and_its_packed_latents() -> None:
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(ASSETS / "mini-flux")
    pipeline.set_progress_bar_config(disable=True)
    model = l2s.load(pipeline, "mini-flux")
    ours = model(PROMPT, seeds=[3])
    steerer = model.steerer(PROMPT)
    packed = model.backbone.to_pipeline(ours.noise)
    made = pipeline(
        PROMPT,
        max_sequence_length=model.backbone.parts["tokenizer_2"].model_max_length,
        height=64,
        width=64,
        latents=steerer(packed, 0),
        callback_on_step_end=steerer.on_step_end,
        num_inference_steps=model.run.backbone.steps,
        guidance_scale=model.run.backbone.guidance,
        output_type="np",
    ).images
    assert levels(made[0] * 255, ours.pixels[0]) <= 2.01


def test_steps_seeds_generators_and_negative_prompts(model) -> None:
    told = []
    few = model(PROMPT, seeds=[3], steps=10, progress=lambda step, steps: told.append((step, steps)))
    assert told == [(step, 10) for step in range(10)] and few.confidence.shape[1] == 5
    source = model.classifier.source.rescheduled(10)
    assert source.steps == (0, 0, 1, 1, 2, 2, 3, 4) and source.capture_index_for(1) == 2
    one = model(PROMPT, seeds=[5], steps=4, steer=False)
    drawn = model(PROMPT, images=1, generator=torch.Generator().manual_seed(5), steps=4, steer=False)
    assert torch.equal(one.pixels, drawn.pixels) and one.gradients == [0] and one.plain_pixels is one.pixels
    other = model(PROMPT, seeds=[5], steps=4, steer=False, negative_prompt="a car")
    assert not torch.equal(one.pixels, other.pixels)


def test_a_saved_classifier_is_loaded_with_its_settings(model, pipeline, result, tmp_path: Path) -> None:
    changed = replace(model, run=model.run.model_copy(update={"batch": 7}))
    folder = l2s.save(changed, tmp_path / "saved")
    assert {path.name for path in folder.iterdir()} >= {"README.md", "configuration.json", "classifier.json"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert model.classifier.source.backbone in card and "| `step_size` | 0.1 |" in card
    again = l2s.load(pipeline, folder)
    assert again.run == changed.run.model_copy(update={"methods": {}, "classifiers": {}})
    assert torch.equal(again(PROMPT, seeds=SEEDS).pixels, result.pixels)


class Hub:
    """The hub's own client, as far as an upload needs one; what is uploaded is kept."""

    made: ClassVar[dict[str, object]] = {}
    files: ClassVar[dict[str, bytes]] = {}

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        self.made.update(repo=repo_id, private=private, exist_ok=exist_ok)
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        self.files.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    """A hub that may be asked, and knows the user."""
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_test")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return Hub


def test_a_pushed_classifier_is_private_and_names_no_folder_of_this_machine(
    hub, model, pipeline, result, tmp_path: Path
) -> None:
    backbone = model.run.backbone.model_copy(update={"model": "/home/somebody/weights/mini-sd"})
    training = ClassifierResult(
        best_epoch=0, history=[], seconds=1.0, records={"test": 7}, validation={}, test={"accuracy": 0.5}, confusion=[]
    )
    mine = replace(model, run=model.run.model_copy(update={"backbone": backbone}), trained=training)
    assert l2s.push(mine, "me/relations") == "https://huggingface.co/me/relations"
    assert hub.made == {"repo": "me/relations", "private": True, "exist_ok": True}
    assert not any(b"somebody" in content for content in hub.files.values())
    card = hub.files["README.md"].decode()
    assert "classifier='me/relations'" in card and "base_model" not in card
    assert "| accuracy on 7 test records | all 0.500 |" in card
    for name, content in hub.files.items():
        (tmp_path / name).write_bytes(content)
    again = l2s.load(pipeline, tmp_path)
    assert torch.equal(again(PROMPT, seeds=SEEDS).pixels, result.pixels) and again.trained == training


def test_what_keeps_an_upload_back_is_one_line(hub, model, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(repo: str = "me/relations") -> str:
        with pytest.raises(l2s.UserError) as error:
            l2s.push(model, repo)
        assert "\n" not in str(error.value) and "hf_" not in str(error.value)
        return str(error.value)

    assert "give OWNER/NAME" in said("relations")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("403 Forbidden\nfor token hf_...")

    monkeypatch.setattr(hub, "create_repo", refuse)
    assert "cannot upload me/relations: 403 Forbidden; check the connection" in said()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "log in with 'hf auth login'" in said()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "set HF_HUB_OFFLINE=0" in said()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, m: l2s.load("mini-sx"), "no configuration 'mini-sx'; did you mean 'mini-sd'"),
        (
            lambda p, m: l2s.load("mini-sd", "nowhere"),
            "no classifier 'nowhere'; allowed: a folder",
        ),
        (lambda p, m: l2s.load("mini-sd", config="mini-sd"), "leave config out"),
        (lambda p, m: l2s.load("mini-sd", "mini-flux"), "reads the attention of 'double.0'"),
        (lambda p, m: l2s.load(p), "a pipeline needs a classifier, or config=NAME"),
        (lambda p, m: l2s.load(p, config="mini-sd")(PROMPT), "no classifier to steer by"),
        (lambda p, m: l2s.load(object(), "mini-sd"), "a object is of no family that can be steered"),
        (lambda p, m: m("a dog"), "a dog"),
        (lambda p, m: m(PROMPT, seeds=()), "no seeds are given"),
    ],
)
def test_mistakes_are_one_line(pipeline, model, call, message: str) -> None:
    with pytest.raises(l2s.UserError) as error:
        call(pipeline, model)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_classifiers_that_mlflow_holds(undisturbed: Path, monkeypatch) -> None:
    """The same weights as in the run's folder, by the champion's name, by its version and by the run."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trained = {path.read_bytes() for path in undisturbed.glob("stages/classifier/*/model.safetensors")}
    client = mlflow_client(undisturbed)
    (name,) = (registered.name for registered in client.search_registered_models())
    version = client.search_model_versions(f"name = '{name}'")[0]
    alias = next(iter(client.get_registered_model(name).aliases))
    for place in (f"models:/{name}@{alias}", f"models:/{name}/{version.version}", f"runs:/{version.run_id}"):
        assert (classifier_folder(place, undisturbed) / "model.safetensors").read_bytes() in trained
    with pytest.raises(l2s.UserError, match="MLflow has no classifier 'runs:/0123'"):
        classifier_folder("runs:/0123", undisturbed)
