"""What claims rest on. Usage: ``python -m l2s_core.experiments.evidence capture|inversion|centroids [MODEL …]``.

`capture`: for every family, on tiny random weights, whether the model's output is the same with capture on,
and how far the maps are from the straightforward computation. `inversion`: how well the shipped models give
scenes back, by the evaluations of the denoiser that each step is allowed. `centroids`: whether attention centroids tell
where objects will be, on plain images of the development suite.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from l2s_core.attention.reader import AttentionReader
from l2s_core.attention.reference import reference_maps, watching_attention
from l2s_core.backbones.architecture import architecture_names, load_architecture, save_random_model
from l2s_core.backbones.load import load_backbone
from l2s_core.backbones.model import DiffusersModel
from l2s_core.config import BackboneConfig, InversionConfig, load_run_config
from l2s_core.data.scenes import Scene, images_of
from l2s_core.dataset.collect import collect_maps, map_source
from l2s_core.diffusion.inversion import psnr
from l2s_core.diffusion.noise import invert_scenes
from l2s_core.diffusion.sampling import initial_noise
from l2s_core.experiments.centroids import AXES, centroid_correlations
from l2s_core.miniworld.world.scenes import render, sample_layout
from l2s_core.miniworld.world.streams import Stream, scene_rng
from l2s_core.prompts.prompt import Prompt, prompt_for
from l2s_core.relations import PLANAR, Triplet

PROMPTS = [
    prompt_for(Triplet(subject="hot dog", relation="left of", object="cat")),
    prompt_for(Triplet(subject="teddy bear", relation="above", object="traffic light")),
]
SCENES = 100
SHIPPED = ("mini-sd", "mini-flux")
ITERATIONS = (1, 2, 3)
DTYPES: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")


@torch.no_grad()
def capture_error(
    backbone: DiffusersModel, softmax: str = "text", prompts: Sequence[Prompt] = PROMPTS
) -> tuple[bool, float]:
    """Return whether capture leaves the output bit-identical, and the largest difference of a map value."""
    latents = initial_noise(list(range(len(prompts))), backbone.latent_shape, backbone.device)
    condition = backbone.encode_prompts([p.text for p in prompts])
    weights_BOK = backbone.phrase_weights(prompts)
    timestep = backbone.schedule(4).timesteps[1]
    with watching_attention() as calls:
        plain = backbone.predict(latents, timestep, condition)
    maps_BOMGG, captured = AttentionReader(backbone, softmax=softmax).read_and_predict(
        latents, timestep, condition, weights_BOK
    )
    expected = reference_maps(
        calls,
        weights_BOK,
        latents=backbone.latent_shape[1:],
        patch=backbone.PATCH,
        text_first=backbone.TEXT_FIRST,
        softmax=softmax,
    )
    return torch.equal(plain, captured), float((maps_BOMGG - expected).abs().max())


def capture_table() -> list[tuple[str, str, str, bool, float]]:
    """Return (architecture, type, softmax, output identical, largest difference)."""
    rows: list[tuple[str, str, str, bool, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in architecture_names():
            architecture = load_architecture(name)
            model = save_random_model(architecture, Path(folder) / name)
            for dtype in DTYPES:
                config = BackboneConfig(
                    model=str(model), family=architecture.family, size=64, steps=4, guidance=1.0, dtype=dtype
                )
                backbone = load_backbone(config, "cpu")
                for softmax in backbone.SOFTMAXES:
                    rows.append((name, dtype, softmax, *capture_error(backbone, softmax)))
    return rows


def inversion_table(name: str) -> list[tuple[int, float, float, float]]:
    """Return figures of the inversion over 100 scenes.

    These are (evaluations a step, mean PSNR in dB, its 5 % quantile in dB, share of images above the run's
    threshold).

    The last row, with 0 evaluations, is what the autoencoder alone gives back: the ceiling.
    """
    config = load_run_config(name)
    backbone = load_backbone(config.backbone, "cpu")
    scenes = [_scene(i) for i in range(SCENES)]
    source = map_source(backbone, config.capture, config.backbone.steps)
    images = images_of(scenes)
    rows = []
    for iterations in ITERATIONS:
        how = InversionConfig(iterations=iterations, min_psnr=config.inversion.min_psnr)
        noise = invert_scenes(backbone, scenes, how, steps=config.backbone.steps, batch=config.batch)
        records = collect_maps(backbone, noise, images, source, batch=config.batch).records
        values = torch.tensor([record.psnr for record in records if record.step == source.steps[0]])
        rows.append((iterations, *_spread(values, config.inversion.min_psnr)))
    pictures = np.stack(list(images.values()))
    ceiling = psnr(torch.from_numpy(backbone.decode(backbone.encode_images(pictures))), torch.from_numpy(pictures))
    return [*rows, (0, *_spread(ceiling, config.inversion.min_psnr))]


def _scene(index: int) -> Scene:
    relation = PLANAR[index % len(PLANAR)]
    layout = sample_layout(scene_rng(3, index, Stream.EVIDENCE), relation=relation, counts=(0.0, 1.0))
    subject, object_ = (p.name for p in layout.placements)
    triplet = Triplet(subject=subject, relation=relation, object=object_)
    return Scene(image_id=f"evidence-{index}", split="test", image=render(layout), triplet=triplet)


def _spread(values: torch.Tensor, threshold: float) -> tuple[float, float, float]:
    return float(values.mean()), float(values.quantile(0.05)), float((values >= threshold).float().mean())


def main() -> None:
    """Print the table that the argument names."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    if wanted == "capture":
        print(f"{'family':16s}{'type':10s}{'softmax':9s}{'output identical':18s}largest difference of the maps")
        for name, dtype, softmax, same, difference in capture_table():
            print(f"{name:16s}{dtype:10s}{softmax:9s}{'yes' if same else 'NO':18s}{difference:.1e}")
    elif wanted == "inversion":
        for name in sys.argv[2:] or SHIPPED:
            print(f"{name}: {SCENES} scenes, a true and a wrong prompt each")
            for iterations, mean, low, share in inversion_table(name):
                label = f"{iterations} evaluations a step" if iterations else "autoencoder alone"
                print(f"  {label:24s} mean {mean:5.1f} dB   5 % below {low:5.1f} dB   {share:6.1%} above the threshold")
    elif wanted == "centroids":
        for name in sys.argv[2:] or SHIPPED:
            count, by_step = centroid_correlations(name)
            print(f"{name}: {count} images; correlation of the centroids' offset with the objects'")
            for step, values in by_step.items():
                print(
                    f"  step {step:3d}  "
                    + "  ".join(f"{axis} {value:+.2f}" for axis, value in zip(AXES, values, strict=True))
                )
    else:
        sys.exit("usage: python -m l2s_core.experiments.evidence capture|inversion|centroids [MODEL …]")


if __name__ == "__main__":
    main()
