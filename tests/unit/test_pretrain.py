"""Pretraining: resumes to the same weights, keeps grids, writes folders that load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from l2s_core.backbones.flux import FluxBackbone, unpack
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.config import CONFIG_FOLDER, Section
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.miniworld.training import denoiser, pretrain_sd, workshop
from l2s_core.miniworld.training.distillation import DistillationLoss
from l2s_core.miniworld.training.pretrain import chain, length_of, load_pretrain_config, pretrain, snapshot
from l2s_core.miniworld.training.several_round import shortened
from l2s_core.miniworld.training.trainer import Observers, TrainPlan, fit
from l2s_core.miniworld.world.captions import CaptionStyle, web_caption
from l2s_core.miniworld.world.scenes import sample_layout
from l2s_core.miniworld.world.streams import scene_rng
from l2s_core.prompts.prompt import parse_several
from l2s_core.storage.files import make_folder
from tasks.tracking.pretrain_run import PretrainRun


class Stopped(Exception):
    """Stands for a kill between two steps."""


def toy_loss(model: nn.Module, step: int) -> torch.Tensor:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def toy_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def test_a_training_killed_and_resumed_ends_in_the_same_weights(tmp_path: Path) -> None:
    plan = TrainPlan(batch=8, steps=12, lr=0.01, warmup=2, checkpoint_every=4, log_every=1)
    straight = fit(toy_model(), toy_loss, plan, checkpoint=tmp_path / "a.safetensors").state_dict()

    def stop(step: int, _values: dict[str, float]) -> None:
        if step == 7:
            raise Stopped

    with pytest.raises(Stopped):
        fit(toy_model(), toy_loss, plan, checkpoint=tmp_path / "b.safetensors", observers=Observers(log=stop))
    steps = []
    observers = Observers(log=lambda s, _: steps.append(s))
    resumed = fit(toy_model(), toy_loss, plan, checkpoint=tmp_path / "b.safetensors", observers=observers).state_dict()
    assert steps[0] == 5  # from the checkpoint of step 4 on
    assert all(torch.equal(straight[k], resumed[k]) for k in straight)


def test_drawing_at_a_checkpoint_leaves_the_training_alone(tmp_path: Path) -> None:
    plan = TrainPlan(batch=8, steps=6, lr=0.01, warmup=1, checkpoint_every=2)
    plain = fit(toy_model(), toy_loss, plan, checkpoint=tmp_path / "a.safetensors").state_dict()
    model = toy_model()
    drawn = fit(
        model,
        toy_loss,
        plan,
        checkpoint=tmp_path / "b.safetensors",
        observers=Observers(on_checkpoint=lambda _: model.requires_grad_(False)),
    ).state_dict()
    assert all(torch.equal(plain[k], drawn[k]) for k in plain)


@pytest.mark.slow
def test_mini_flux_in_a_few_steps(tmp_path: Path, small_grids: None) -> None:
    config = brief(load_pretrain_config("mini-flux-two")).model_copy(update={"encoders": None})
    seen = []
    out = pretrain(config, tmp_path, observe=lambda model, *_: seen.append(model))
    assert list(dict.fromkeys(seen)) == ["t5", "flow-1", "pairs-1", "reflow-1", "flow-2", "flow-3", "distillation-3"]
    grids = {f"{name}-000002.png" for name in ("flow-1", "reflow-1", "flow-2", "flow-3", "distillation-3")}
    assert {p.name for p in (tmp_path / "grids").iterdir()} == grids
    weights = (out / "mini-flux" / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    for left in tmp_path.glob("flow-*"):
        left.unlink()
    seen.clear()
    pretrain(config, tmp_path, observe=lambda model, *_: seen.append(model))
    assert (
        seen == []
        and (out / "mini-flux" / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes() == weights
    )
    assert FluxBackbone.from_pretrained(str(out / "mini-flux"), size=64).latent_shape == (4, 16, 16)
    assert not list(out.rglob("*.bin")) and not list(out.rglob("*.pt"))


@torch.no_grad()
def test_a_student_is_asked_for_the_velocity_its_teacher_samples_with() -> None:
    backbone = FluxBackbone.from_pretrained("mini-flux", size=64)
    prompts = ["a dog and a cup", "a cat"]
    latents, noise = (
        torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(k)) for k in (0, 1)
    )
    text, empty = (backbone.encode_prompts(texts, guidance=1.0).text for texts in (prompts, [""]))
    asked = []

    class Student(nn.Module):
        def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
            asked.append((hidden_states, timestep))
            return (torch.zeros_like(hidden_states),)

    teacher = backbone.parts["transformer"]
    torch.manual_seed(0)
    loss = DistillationLoss(batches=lambda _: (latents, text), teacher=teacher, empty=empty, guidance=5.0)(Student(), 0)
    (tokens, sigma) = asked[0]
    condition = backbone.encode_prompts(prompts, guidance=5.0)
    assert 0 < sigma.min() < sigma.max() < 1
    guided = [backbone.predict(unpack(tokens, 8, 8), s.item(), condition)[i] for i, s in enumerate(sigma)]
    torch.testing.assert_close(loss, torch.stack(guided).square().mean(), rtol=1e-4, atol=1e-5)


@pytest.fixture
def small_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids of two images: sampling 32 took nine tenths of a training's time."""
    monkeypatch.setattr(workshop, "GRID_IMAGES", 2)


def brief(section: Section) -> Section:
    """Return a configuration with every training cut to two steps of four, and every round to 16 scenes."""
    return shortened(section, {"steps": 2, "batch": 4, "pairs": 6, "pair_steps": 2, "scenes": 16})


@pytest.mark.slow
def test_the_whole_chain_in_a_few_steps_killed_in_each_part(
    tmp_path: Path, small_grids: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = brief(load_pretrain_config())
    parts = ["text", "autoencoder", "denoiser-1", "denoiser-2", "judge"]
    trainings = [*(f"mini-sd-two/{name}" for name in parts), "text", "denoiser-1", "judge"]
    seen = []
    out = pretrain(config, tmp_path / "straight", observe=lambda training, *_: seen.append(training))
    assert list(dict.fromkeys(seen)) == trainings and all(length_of(config, name) == 2 for name in trainings)
    first = tmp_path / "straight" / "mini-sd-two"
    assert {p.name for p in (first / "grids").iterdir()} == {
        "autoencoder-000002.png",
        "denoiser-1-000002.png",
        "denoiser-2-000002.png",
    }
    assert [p.name for p in (tmp_path / "straight" / "grids").iterdir()] == ["denoiser-1-000002.png"]
    ends = [UNetBackbone.from_pretrained(str(folder / "mini-sd")) for folder in (out, first / "models")]
    assert [model.parts["tokenizer"].model_max_length for model in ends] == [32, 24]
    assert ends[0].latent_shape == (4, 16, 16)
    assert load_judge(str(out / "mini-seg")).model.config.num_labels == 17
    assert not list(out.rglob("*.bin")) and not list(out.rglob("*.pt"))
    assert not any(
        str(tmp_path) in path.read_text() for path in out.rglob("*.json")
    )  # a model says nothing of where it was made

    work = tmp_path / "killed"
    monkeypatch.setattr(pretrain_sd, "sample_grid", lambda *_, **__: np.zeros((1, 64, 64, 3), np.uint8))
    for last in ("mini-sd-two/denoiser-1", "text"):

        def stop(training: str, step: int, _values: dict[str, float], last: str = last) -> None:
            seen.append(training)
            if training == last:
                raise Stopped

        with pytest.raises(Stopped):
            pretrain(config, work, observe=stop)
        seen.clear()
        if last == "text":  # no denoiser of the second part yet: what the first ended with
            kept = snapshot(config, work, tmp_path / "then")
            assert files(kept) == files(first / "models")
    resumed = pretrain(config, work, observe=lambda training, *_: seen.append(training))
    assert set(seen) == {"mini-sd-two/autoencoder", *trainings[5:]}  # the first part tells what it ended with
    assert files(resumed) == files(out)


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_chain_of_trainings_has_a_beginning(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    text = (CONFIG_FOLDER / "pretrain" / "mini-sd.yaml").read_text()
    for after, message in (
        (str(own), "own.yaml: after leads back to this training"),
        ("mini-flux", "after is 'mini-flux', a training of mini-flux; allowed: one of mini-sd"),
        ("mini-sd-tow", "no training 'mini-sd-tow'; did you mean 'mini-sd-two'"),
        ("mini-sd-two\nbegin: mini-sd", "after and begin both say what training goes on from"),
    ):
        own.write_text(text.replace("after: mini-sd-two", f"after: {after}"))
        with pytest.raises(UserError, match=message):
            load_pretrain_config(own)
    own.write_text(text.replace("after: mini-sd-two", "after: mini-sd"))
    assert list(chain(load_pretrain_config(own))) == ["mini-sd-two", "mini-sd", ""]
    text = (CONFIG_FOLDER / "pretrain" / "mini-flux.yaml").read_text()
    assert list(chain(load_pretrain_config("mini-flux"))) == ["mini-sd-two", "mini-sd", "mini-flux-two", ""]
    own.write_text(text.replace("after: mini-flux-two", "after: mini-flux"))
    assert list(chain(load_pretrain_config(own)))[-2:] == ["mini-flux", ""]
    own.write_text(text.replace("encoders: mini-sd", "encoders: mini-flux"))
    with pytest.raises(UserError, match="encoders is 'mini-flux', a training of mini-flux; allowed: one of mini-sd"):
        load_pretrain_config(own)


@pytest.mark.slow
def test_mlflow_tells_the_parts_of_a_chain_apart(tmp_path: Path) -> None:
    config = load_pretrain_config()
    for folder, name in (("work/mini-sd-two/grids", "denoiser-2.png"), ("work/grids", "denoiser-1.png")):
        make_folder(tmp_path / folder).joinpath(name).touch()
    run = PretrainRun(tmp_path / "home", config)
    run.log("mini-sd-two/denoiser-1", 6000, {"loss": 0.2})
    run = PretrainRun(tmp_path / "home", config)  # the same one, resumed
    run.log("denoiser-1", 25, {"loss": 0.1})
    run.finish(tmp_path / "work")
    kept = run.client.get_run(run.run_id)
    assert kept.data.metrics.items() >= {"mini-sd-two/denoiser-1/loss": 0.2, "denoiser-1/loss": 0.1}.items()
    assert kept.data.params.items() >= {"after": "mini-sd-two", "mini-sd-two/window": "24", "window": "32"}.items()
    grids = {
        file.path for folder in ("grids", "grids/mini-sd-two") for file in run.client.list_artifacts(run.run_id, folder)
    }
    assert grids == {"grids/denoiser-1.png", "grids/mini-sd-two", "grids/mini-sd-two/denoiser-2.png"}


def test_captions_of_three_objects_state_two_relations_in_the_share_that_is_asked_for() -> None:
    layouts = [sample_layout(scene_rng(0, i, 5), counts=(0.0, 0.0, 1.0)) for i in range(400)]
    listed = [web_caption(layout, scene_rng(0, i, 6)) for i, layout in enumerate(layouts)]
    mixed = [web_caption(layout, scene_rng(0, i, 6), CaptionStyle(chained=0.4)) for i, layout in enumerate(layouts)]
    assert all(" and " in caption for caption in listed)
    chained = [(caption, layout) for caption, layout in zip(mixed, layouts, strict=True) if " and " not in caption]
    assert 0.33 < len(chained) / len(mixed) < 0.47
    for caption, layout in chained:
        prompt = parse_several(caption)
        assert len(prompt.triplets) == 2 and set(prompt.objects) == {p.name for p in layout.placements}
        assert prompt.triplets[0].object == prompt.triplets[1].subject


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_graph_of_a_gpu_computes_what_the_model_does() -> None:
    unet = UNetBackbone.from_pretrained("mini-sd").denoiser.float().to("cuda").train().requires_grad_(True)
    gradients = []
    torch.manual_seed(0)
    inputs = (
        torch.randn(8, 4, 16, 16, device="cuda"),
        torch.arange(0, 800, 100, device="cuda"),
        torch.randn(8, 24, 128, device="cuda"),
    )
    plain = denoiser.Prediction(unet)
    for predict in (plain, denoiser.graphed(denoiser.Prediction(unet), inputs)):
        unet.zero_grad(set_to_none=True)
        predict(*inputs).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in unet.parameters()]))
    straight, graph = gradients
    assert (
        graph - straight
    ).norm() < 1e-2 * straight.norm()  # the graph may use other convolutions, which round to TF32 otherwise
