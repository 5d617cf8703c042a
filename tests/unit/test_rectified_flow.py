"""RF-Inversion's controlled paths: the ends they are pulled to, what they cost, that the same image has one noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from l2s_core.backbones.architecture import load_architecture, random_backbone
from l2s_core.backbones.base import Backbone
from l2s_core.backbones.flow import euler_schedule
from l2s_core.config import CaptureConfig, InversionConfig, load_run_config
from l2s_core.data.scenes import Scene, images_of
from l2s_core.dataset.collect import collect_maps, map_source
from l2s_core.diffusion.noise import NoiseShard, control_of, invert_scenes, load_noise, save_noise
from l2s_core.diffusion.rectified_flow import controlled_invert
from l2s_core.diffusion.sampling import initial_noise, sample
from l2s_core.diffusion.schedule import Schedule
from l2s_core.relations import Triplet

STEPS = 5
TRIPLET = Triplet(subject="dog", relation="left of", object="cat")


@pytest.fixture(scope="module")
def flux():
    return random_backbone(load_architecture("flux-schnell"), "tiny", size=64)


@pytest.fixture(scope="module")
def problem(flux):
    """(image latents, fresh noise, condition, schedule)."""
    image, noise = (initial_noise(seeds, flux.latent_shape) for seeds in ([1, 2], [3, 4]))
    return image, noise, flux.encode_prompts(["a dog", "a cat"]), flux.schedule(STEPS)


def scenes(count: int) -> list[Scene]:
    rng = np.random.default_rng(0)
    return [
        Scene(image_id=f"s{i}", split="train", image=rng.integers(0, 255, (64, 64, 3), np.uint8), triplet=TRIPLET)
        for i in range(count)
    ]


def config(**settings) -> InversionConfig:
    return InversionConfig(**{"method": "rectified-flow", "min_psnr": 0, **settings})


def test_full_control_leads_to_the_noise_and_back_to_the_image(flux, problem) -> None:
    image, noise, condition, schedule = problem
    assert torch.equal(controlled_invert(flux, image, noise, condition, schedule, gamma=1.0), noise)
    nearly = controlled_invert(flux, image, noise, condition, schedule, gamma=0.999999)
    assert (nearly - noise).abs().max() < 1e-3  # the shortcut for gamma = 1 is the limit of the equation
    control = control_of(config(), image, schedule)
    assert (sample(control.over(flux), noise, condition, schedule) - image).abs().max() < 1e-5


def returned(flux: Backbone, given: list[Scene], noise: NoiseShard, steps: int) -> np.ndarray:
    """The PSNR, dB, of what the noise of every scene gives back under both of its prompts."""
    shard = collect_maps(flux, noise, images_of(given), map_source(flux, CaptureConfig(steps=(0,)), steps), batch=4)
    return np.array([record.psnr for record in shard.records])


def test_the_papers_noise_of_flux_schnell_keeps_a_part_of_the_image(flux) -> None:
    """Four steps of 1/4 that are taken at 0, 1/5, 2/5, 3/5: 3/4 x 11/16 x 7/12 x 3/8 of the image stays, 11.3 %.

    That is the point of the straight path (1 - t) image + t noise at t = 0.887, where sampling begins at t = 1.
    """
    theirs = load_run_config("flux-schnell")
    share = 3 / 4 * 11 / 16 * 7 / 12 * 3 / 8
    assert round(share, 3) == 0.113
    schedule = flux.schedule(theirs.backbone.steps)
    assert schedule.timesteps == (1.0, 0.75, 0.5, 0.25)
    image, noise = (initial_noise(seeds, flux.latent_shape).double() for seeds in ([1, 2], [3, 4]))
    start = controlled_invert(flux, image, noise, None, schedule, gamma=1.0, times="count")
    assert (start - (share * image + (1 - share) * noise)).abs().max() < 1e-12
    assert torch.equal(controlled_invert(flux, image, noise, None, schedule, gamma=1.0), noise)

    counted = theirs.inversion
    ours, kept = (
        invert_scenes(flux, scenes(2), inversion, steps=theirs.backbone.steps, batch=4)
        for inversion in (counted.model_copy(update={"times": "path"}), counted)
    )
    expected = share * ours.control.image + (1 - share) * ours.noise
    assert (kept.noise - expected).abs().max() < 1e-5
    from_ours, from_kept = (returned(flux, scenes(2), noise, theirs.backbone.steps) for noise in (ours, kept))
    assert np.allclose(from_ours, from_kept, atol=0.1)  # full control leads back from either
    assert counted.times == load_run_config("flux-dev").inversion.times == "count"
    assert "times" not in ours_of("mini-flux-few").model_dump() and counted.digest() != ours_of("flux-dev").digest()


def test_the_papers_noise_of_flux_dev_keeps_next_to_nothing() -> None:
    """0.05 %: of the 50 shifted steps the long ones come last, where the count of steps runs ahead of the path."""
    settings = load_architecture("flux-dev").settings("full")["scheduler"]
    schedule = euler_schedule(FlowMatchEulerDiscreteScheduler(**settings), 50, tokens=1024, even_sigmas=True)
    image = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    share = controlled_invert(None, image, 0 * image, None, schedule, gamma=1.0, times="count").item()
    shift = math.exp(0.5 + (1.15 - 0.5) * (1024 - 256) / (4096 - 256))
    sigmas = [shift / (shift + 1 / (1 - i / 50) - 1) for i in range(50)] + [0]
    expected = math.prod(1 - (sigmas[i] - sigmas[i + 1]) / (1 - i / 51) for i in range(50))
    assert share == pytest.approx(expected, abs=1e-6) and round(share, 4) == 0.0005


def ours_of(name: str) -> InversionConfig:
    return load_run_config(name, {"inversion.times": "path"}).inversion


def test_the_papers_steps_are_euler_steps_by_count_whatever_the_pull() -> None:
    """Step i of n has the schedule's i-th length, from the noisy end on, and is taken at i / (n + 1)."""

    class Linear:
        def predict(self, latents: torch.Tensor, timestep: float, condition: None) -> torch.Tensor:
            return 0.5 * latents + timestep

    sigmas = (1.0, 0.9, 0.7, 0.2)
    schedule = Schedule(timesteps=sigmas, keep=(1.0,) * 4, add=(-0.1, -0.2, -0.5, -0.2))
    image, noise = (torch.randn(2, 1, 2, 2, dtype=torch.float64) for _ in range(2))
    z = image.numpy().copy()
    for i, length in enumerate((0.1, 0.2, 0.5, 0.2)):
        t = i / 5
        model = 0.5 * z + t
        z = z + length * (0.3 * (noise.numpy() - z) / (1 - t) + 0.7 * model)
    found = controlled_invert(Linear(), image, noise, None, schedule, gamma=0.3, times="count")
    assert np.abs(found.numpy() - z).max() < 1e-12


def test_no_control_is_the_model_alone(flux, problem) -> None:
    image, noise, condition, schedule = problem
    free = controlled_invert(flux, image, noise, condition, schedule, gamma=0.0)
    assert torch.equal(free, controlled_invert(flux, image, -noise, condition, schedule, gamma=0.0))
    control = control_of(config(eta=0.0), image, schedule)
    assert torch.equal(sample(control.over(flux), noise, condition, schedule), sample(flux, noise, condition, schedule))


def test_more_control_ends_nearer_and_start_and_stop_bound_it(flux, problem) -> None:
    image, noise, condition, schedule = problem

    def distance(eta: float, start: int = 0, stop: int = STEPS) -> float:
        control = control_of(config(eta=eta, start=start, stop=stop), image, schedule)
        return float((sample(control.over(flux), noise, condition, schedule) - image).square().mean())

    assert distance(0.0) > distance(0.5) > distance(0.9) > distance(1.0)
    assert distance(1.0, stop=2) > 1e-3 and distance(1.0, start=STEPS - 1) < 1e-9
    assert control_of(config(start=1, stop=3), image, schedule).sigmas == schedule.timesteps[1:3]
    assert control_of(InversionConfig(method="fixed-point", min_psnr=0), image, schedule) is None


def test_a_shard_keeps_its_control_and_the_model_runs_only_at_captured_steps(flux, tmp_path, monkeypatch) -> None:
    shard = invert_scenes(flux, scenes(3), config(), steps=STEPS, batch=4)
    assert torch.equal(shard.noise[0], shard.noise[1]) and not torch.equal(
        shard.noise[0], shard.noise[2]
    )  # one noise an image
    save_noise(tmp_path / "n.safetensors", shard)
    loaded = load_noise(tmp_path / "n.safetensors")
    assert (loaded.control.eta, loaded.control.sigmas) == (1.0, flux.schedule(STEPS).timesteps)
    assert torch.equal(loaded.control.image, shard.control.image) and len(shard.control.image) == 6
    calls = []
    real = type(flux).predict

    def counted(self, latents, timestep, condition):
        calls.append(timestep)
        return real(self, latents, timestep, condition)

    monkeypatch.setattr(type(flux), "predict", counted)
    source = map_source(flux, CaptureConfig(steps=(1, 3)), STEPS)
    together = collect_maps(flux, loaded, images_of(scenes(3)), source, batch=6)
    assert (
        calls == [flux.schedule(STEPS).timesteps[i] for i in (1, 3)]
        and len(together.records) == len(together.maps_NOMGG) == 12
    )
    alone = collect_maps(flux, loaded, images_of(scenes(3)), source, batch=1)
    by_row, again = (
        {
            (r.image_id, r.prompt_kind, r.step): m.astype(np.float32)
            for r, m in zip(s.records, s.maps_NOMGG, strict=True)
        }
        for s in (together, alone)
    )
    assert by_row.keys() == again.keys() and all(np.allclose(by_row[k], again[k], atol=1e-4) for k in by_row)


def test_fixed_point_inversion_serves_flows_too(flux) -> None:
    *quality, ceiling = (
        returned(flux, scenes(2), invert_scenes(flux, scenes(2), inversion, steps=STEPS, batch=4), STEPS).mean()
        for inversion in (*(InversionConfig(iterations=n, min_psnr=0) for n in (1, 5)), config())
    )
    assert quality[1] >= quality[0] and abs(quality[1] - ceiling) < 0.5
