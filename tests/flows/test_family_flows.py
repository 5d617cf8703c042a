"""Tiny random models of every family through the whole flow, loaded as published weights are.

Folders that are not right are refused.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.damage import drop_weights

from l2s_core.backbones.architecture import load_architecture, save_random_model
from l2s_core.backbones.flux import FluxBackbone
from l2s_core.backbones.load import load_backbone
from l2s_core.config import BackboneConfig
from l2s_core.errors import UserError

pytestmark = [pytest.mark.server, pytest.mark.slow]

SETTINGS = {
    "backbone.size": 64,
    "backbone.steps": 3,
    "data.train": 1,
    "data.val": 1,
    "data.test": 1,
    "inversion.min_psnr": 0,
    "inversion.iterations": 1,
    "capture.steps": [0, 2],
    "classifier.epochs": 2,
    "classifiers": {},
    "steering.until_step": 3,
    "steering.updates": 1,
    "benchmark.prompts": 2,
    "benchmark.seeds": 1,
    "shard": 8,
}
RECTIFIED = {"inversion.method": "rectified-flow"}
FAMILIES = {
    "sd14": {},
    "sd21": {},
    "sd21-768": {},
    "sdxl": {"capture.layers": ["up_blocks.*"]},
    "flux-schnell": RECTIFIED,
    "flux-dev": {
        **RECTIFIED,
        "inversion.gamma": 0.5,
        "inversion.eta": 0.7,
        "backbone.checkpointing": True,
        "capture.softmax": "joint",
    },
    "flux2-klein-4b": {**RECTIFIED, "capture.softmax": "joint", "backbone.checkpointing": True},
    "sd35-medium": {"backbone.dtype": "bfloat16", "backbone.offload": True},
    "z-image-turbo": {**RECTIFIED, "backbone.offload": True, "backbone.checkpointing": True},
    "pixart-sigma": {"backbone.checkpointing": True},
    "qwen-image": {"backbone.checkpointing": True, "backbone.guidance": 4.0, "capture.softmax": "joint"},
    "sana": {**RECTIFIED, "backbone.dtype": "bfloat16", "backbone.offload": True},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_whole_flow(prefect_server, tmp_path: Path, name: str) -> None:
    from flows.reproduce import reproduce

    architecture = load_architecture(name)
    folder = save_random_model(architecture, tmp_path / "model")
    overrides = {
        **SETTINGS,
        "name": name,
        "backbone.model": str(folder),
        "backbone.family": architecture.family,
        **FAMILIES[name],
    }
    report = reproduce("mini-sd", overrides, tmp_path / "runs")
    assert report.run.plain.summary.correct.count == 6 and report.dataset.inversion.images == 12
    assert report.run.classifiers["main"].steered.summary.gradients > 0
    source = json.loads(next((tmp_path / "runs").glob("stages/classifier/*/classifier.json")).read_text())["source"]
    assert source["backbone"] and source["softmax"] == FAMILIES[name].get("capture.softmax", "text")
    assert (tmp_path / "runs" / "reports" / name / "report.html").is_file()


@pytest.fixture(scope="module")
def flux_folder(tmp_path_factory) -> Path:
    return save_random_model(load_architecture("flux-schnell"), tmp_path_factory.mktemp("flux") / "model")


def load(folder: Path, family: str = "flux", **settings):
    return load_backbone(
        BackboneConfig(**{"model": str(folder), "family": family, "size": 64, "steps": 4, "guidance": 1.0, **settings}),
        "cpu",
    )


def test_a_folder_of_another_family_is_named(flux_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no unet/.*change backbone.family"):
        load(flux_folder, family="unet")
    folder = shutil.copytree(flux_folder, tmp_path / "m")
    config = json.loads((folder / "transformer" / "config.json").read_text())
    (folder / "transformer" / "config.json").write_text(json.dumps({**config, "_class_name": "SD3Transformer2DModel"}))
    with pytest.raises(UserError, match="holds a SD3Transformer2DModel, expected FluxTransformer2DModel"):
        load(folder)


def test_a_missing_or_cut_component_is_named(flux_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(flux_folder, tmp_path / "m")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot load .*transformer.*missing or damaged"):
        load(folder)
    weights.unlink()
    with pytest.raises(UserError, match="/transformer has no plain safetensors file; the file is missing, fetch it"):
        load(folder)
    weights.write_bytes(whole)
    (folder / "vae" / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot read .*vae/config.json"):
        load(folder)
    shutil.rmtree(folder / "text_encoder_2")
    with pytest.raises(UserError, match="has no text_encoder_2/"):
        load(folder)


@pytest.mark.parametrize("name", ["transformer", "vae", "text_encoder", "text_encoder_2"])
def test_weights_that_are_missing_are_named(name: str, flux_folder: Path, tmp_path: Path) -> None:
    """Those of an encoder were filled in at random, without a word.

    Those of the others ended in NotImplementedError.
    """
    folder = shutil.copytree(flux_folder, tmp_path / "m")
    first = drop_weights(next((folder / name).glob("*.safetensors")), count=2)
    with pytest.raises(
        UserError, match=f"/{name} lacks 2 weights of a .*, as .*{first.split('.')[-1]}; fetch it again"
    ):
        load(folder)


def shard_weights(folder: Path, name: str = "diffusion_pytorch_model") -> None:
    """Put a component's weights into two files and an index, as those of large models come."""
    from safetensors.torch import load_file, save_file

    whole = folder / f"{name}.safetensors"
    weights = load_file(whole)
    files = {key: f"{name}-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(sorted(weights))}
    for file in set(files.values()):
        save_file({key: weights[key] for key in files if files[key] == file}, folder / file, metadata={"format": "pt"})
    (folder / f"{name}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    whole.unlink()


@pytest.mark.parametrize(("part", "name"), [("transformer", "diffusion_pytorch_model"), ("text_encoder_2", "model")])
def test_shards_without_what_their_index_names_are_not_loaded(
    part: str, name: str, flux_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(flux_folder, tmp_path / "m")
    shard_weights(folder / part, name)
    assert load(folder).latent_shape == (4, 16, 16)
    (folder / part / f"{name}.bin.index.json").write_text(
        json.dumps({"weight_map": {"a": "b.bin"}})
    )  # some models come in pickles too
    FluxBackbone.COMPONENTS[part].check(folder / part)
    shard = folder / part / f"{name}-00002-of-00002.safetensors"
    first = drop_weights(shard, count=2)
    with pytest.raises(UserError, match=f"/{part} lacks 2 weights of a .*, as {first}"):
        load(folder)
    with pytest.raises(UserError, match=f"/{part} lacks 2 weights of a .*, as {first}"):
        FluxBackbone.COMPONENTS[part].check(folder / part)
    shard.unlink()
    with pytest.raises(UserError, match=f"cannot load .*/{part}: .*00002-of-00002"):
        load(folder)
    with pytest.raises(UserError, match=f"cannot load .*/{part}: .*00002-of-00002"):
        FluxBackbone.COMPONENTS[part].check(folder / part)


@pytest.mark.parametrize(
    ("part", "files", "message"),
    [
        (
            "tokenizer",
            ["tokenizer.json"],
            "/tokenizer has no vocabulary; needed: tokenizer.json, or .*vocab.json and merges.txt, or spiece.model",
        ),
        ("tokenizer_2", ["tokenizer.json"], "/tokenizer_2 has no vocabulary"),
        (
            "tokenizer",
            ["tokenizer.json", "tokenizer_config.json"],
            "missing file .*/tokenizer/tokenizer_config.json; .*fetch it again",
        ),
        ("tokenizer", ["tokenizer_config.json"], "missing file .*/tokenizer/tokenizer_config.json; .*fetch it again"),
        ("scheduler", ["scheduler_config.json"], "missing file .*/scheduler/scheduler_config.json; .*fetch it again"),
        ("text_encoder", ["config.json"], "missing file .*/text_encoder/config.json; .*fetch it again"),
    ],
)
def test_a_component_without_its_settings_or_vocabulary_is_named(
    part, files, message, flux_folder: Path, tmp_path: Path
) -> None:
    """A tokenizer without either loaded: with no words to speak of, or with a text window of 10^30 tokens."""
    folder = shutil.copytree(flux_folder, tmp_path / "m")
    for name in files:
        (folder / part / name).unlink()
    with pytest.raises(UserError, match=message):
        load(folder)


def test_a_vocabulary_in_two_files_is_read(flux_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(flux_folder, tmp_path / "m")
    whole = folder / "tokenizer" / "tokenizer.json"
    model = json.loads(whole.read_text())["model"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"]))
    whole.unlink()
    with pytest.raises(UserError, match="no vocabulary"):
        load(folder)
    (folder / "tokenizer" / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in model["merges"])
    )
    ours, theirs = (load(path).parts["tokenizer"]("a dog left of a cat").input_ids for path in (folder, flux_folder))
    assert ours == theirs


def test_sizes_a_model_cannot_have_are_named(flux_folder: Path) -> None:
    with pytest.raises(UserError, match="backbone.size is 60; it must be a multiple of 8 pixels"):
        load(flux_folder, size=60)
    with pytest.raises(UserError, match="backbone.size is not set"):
        load(flux_folder, size=None)


def test_a_phrase_outside_the_text_window_is_an_error(flux_folder: Path) -> None:
    from l2s_core.prompts.prompt import prompt_for
    from l2s_core.relations import Triplet

    long = prompt_for(Triplet(subject="dog", relation="left of", object="cat"), prefix="a photo of " * 12)
    with pytest.raises(UserError, match="'dog' of .* is cut off by the text window of 24 tokens"):
        load(flux_folder).phrase_weights([long])


def test_a_gated_model_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from httpx import Request, Response
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError

    def refuse(*_arguments, **_options):
        raise GatedRepoError("403", response=Response(403, request=Request("GET", "http://127.0.0.1/x")))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(
        UserError, match="is gated: accept its licence at https://huggingface.co/black-forest-labs/FLUX.1-dev"
    ):
        load(Path("black-forest-labs/FLUX.1-dev"))


def in_the_hub_cache(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy a model to a cache of the hub as some/model; return its snapshot folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    repo = cache / "models--some--model"
    snapshot = shutil.copytree(folder, repo / "snapshots" / "abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    return snapshot


def test_an_interrupted_download_is_taken_up_again(
    flux_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every component had its folder, and the one without weights yet counted as complete."""
    import huggingface_hub
    from huggingface_hub import constants

    snapshot = in_the_hub_cache(flux_folder, tmp_path, monkeypatch)
    weights = snapshot / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    with pytest.raises(UserError, match="/transformer has no plain safetensors file"):  # offline
        load(Path("some/model"))

    def fetch(_model: str, **_options) -> str:
        shutil.copy(flux_folder / "transformer" / weights.name, weights)
        return str(snapshot)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert load(Path("some/model")).latent_shape == (4, 16, 16)


NAMES = (
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "model.fp16.safetensors",
    "model.fp16-00001-of-00002.safetensors",
    "model-00001-of-00002.fp16.safetensors",
    "model.safetensors.index.fp16.json",
    "model.non_ema.safetensors",
)


@pytest.mark.parametrize(("precision", "loaded"), [(None, NAMES[:3]), ("fp16", NAMES[3:7]), ("non_ema", NAMES[7:])])
def test_weights_of_another_precision_are_neither_fetched_nor_known(
    precision, loaded, flux_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-precision copies beside the loaded weights were fetched with them, and made it another model."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import filter_repo_objects

    from l2s_core.backbones.folder import fingerprint_of
    from l2s_core.backbones.hub import hub_folder

    folder = shutil.copytree(flux_folder, tmp_path / "m")
    part = ["transformer"]
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "transformer" / loaded[0]).touch()  # a component that has none of a precision is loaded as it is
    for name in NAMES:
        before = fingerprint_of(folder, part, precision)
        (folder / "transformer" / name).write_text(name)
        assert (fingerprint_of(folder, part, precision) != before) == (name in loaded), name
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    calls: list[dict] = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda _model, **patterns: calls.append(patterns) or str(folder)
    )
    hub_folder("some/model", [*part, "vae"], precision=precision)
    there = [*(f"transformer/{name}" for name in NAMES if name.endswith(".safetensors")), "vae/model.safetensors"]
    fetched = [name for patterns in calls for name in filter_repo_objects(there, **patterns)]
    assert fetched == [
        *(f"transformer/{name}" for name in loaded if name.endswith(".safetensors")),
        "vae/model.safetensors",  # which has its weights once
    ]


def test_a_connection_that_breaks_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import httpx

    def broken(*_arguments, **_options):
        raise httpx.ReadTimeout("The read operation timed out")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(
        UserError, match="cannot fetch some/model from the hub: The read operation timed out; check the connection"
    ):
        load(Path("some/model"))


def test_a_model_in_the_hub_cache_is_found_and_known_by_its_content(
    flux_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from l2s_core.backbones.folder import fingerprint_of, resolve_folder
    from l2s_core.storage.files import file_digest

    snapshot = in_the_hub_cache(flux_folder, tmp_path, monkeypatch)
    weights = snapshot / "transformer" / "diffusion_pytorch_model.safetensors"
    blob = snapshot.parents[1] / "blobs" / file_digest(weights, 64)
    blob.parent.mkdir()
    shutil.move(weights, blob)
    weights.symlink_to(blob)
    found = resolve_folder("some/model", FluxBackbone.COMPONENTS)
    assert found == snapshot
    assert fingerprint_of(found, FluxBackbone.COMPONENTS) == fingerprint_of(flux_folder, FluxBackbone.COMPONENTS)
