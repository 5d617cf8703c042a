"""Images that are not square, from the settings to what is seen of them."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.judged import judged_image
from helpers.runs import run_of

from l2s_core.attention.pooling import grid_over, map_sides, pool_maps
from l2s_core.backbones.folder import SHIPPED
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.model import build_classifier
from l2s_core.config import ClassifierConfig, load_run_config
from l2s_core.data.catalogue import Entry
from l2s_core.data.source import source_of
from l2s_core.dataset.collect import collect_maps, map_source
from l2s_core.dataset.reader import MapDataset
from l2s_core.dataset.writer import write_shard
from l2s_core.diffusion.noise import invert_scenes
from l2s_core.errors import UserError
from l2s_core.interface.model import SteeredModel
from l2s_core.miniworld.world.scenes import render, sample_layout
from l2s_core.miniworld.world.streams import scene_rng
from l2s_core.planning.cost import sizes_of
from l2s_core.report.grids import comparison_grid, stacked_grid
from l2s_core.steering.objectives.centroid import centroids

WIDE = (64, 96)  # pixels
FEW = {"backbone.steps": 2, "capture.steps": [1], "steering.until_step": 1, "steering.updates": 1}


def test_a_square_is_one_number_however_it_is_written(tmp_path: Path) -> None:
    """So what was made of square images keeps its address."""
    one, two, wide, tall = (
        load_run_config("mini-sd", {"backbone.size": size}) for size in (64, [64, 64], [64, 96], [96, 64])
    )
    assert one == two and one.digest() == two.digest()
    assert len({config.digest() for config in (one, wide, tall)}) == 3 and wide.backbone.size == WIDE
    paths = [run_of(tmp_path, one, inputs={"size": size}).paths for size in (64, WIDE, WIDE[::-1])]
    for stage in ("catalogue", "scenes", "noise", "maps", "trajectories"):
        assert len({getattr(each, stage) for each in paths}) == 3


@pytest.mark.parametrize("size", [[64], [64, 64, 64], [64, 8], [64, 9000], [64, "x"], "wide", 8, 64.5, True])
def test_a_size_that_is_none_is_one_line(size: object) -> None:
    with pytest.raises(UserError, match=r"backbone.size: allowed: 16 to 4096 pixels, or two .*height, width.* \(got"):
        load_run_config("mini-sd", {"backbone.size": size})


def test_the_map_grid_keeps_the_proportions_of_the_image() -> None:
    assert grid_over(16, (64, 64)) == 16 and grid_over(16, (4096, 16)) == (16, 2)
    assert grid_over(16, (64, 96)) == (11, 16) and grid_over(16, (96, 64)) == (16, 11)
    assert grid_over(16, (72, 128)) == (9, 16)


@pytest.mark.parametrize("latents", [(65, 97), (64, 96), (9, 200), 64])
def test_maps_of_every_resolution_of_a_unet_are_told_apart_by_their_tokens(latents) -> None:
    """A UNet halves, and rounds up."""
    height, width = (latents, latents) if isinstance(latents, int) else latents
    for _ in range(4):
        assert map_sides(height * width, latents) == (height, width)
        height, width = -(-height // 2), -(-width // 2)
    with pytest.raises(ValueError, match="is no map of"):
        map_sides(prod((height, width)) * 1009, latents)


def test_what_is_attended_to_stays_in_its_place() -> None:
    layers, places = [], []
    for rows, columns in ((32, 48), (8, 12)):
        cells = torch.zeros(1, 1, 1, rows, columns)
        cells[..., rows // 4, columns * 3 // 4] = 1  # right of the middle, above it
        layers.append(cells.flatten(3))
        places.append(((columns * 3 // 4 + 0.5) / columns, (rows // 4 + 0.5) / columns))
    maps = pool_maps(layers, (11, 16), latents=(32, 48))
    assert maps.shape == (1, 1, 2, 11, 16) and torch.allclose(maps.sum((-1, -2)), torch.ones(1, 1, 2))
    assert (centroids(maps)[0, 0] - torch.tensor(places)).abs().max() < 0.01  # in shares of the longer side, both


def test_scenes_of_the_small_world_are_drawn_in_the_images_proportions() -> None:
    source = source_of(load_run_config("mini-sd").data)
    entries = [Entry(image_id=f"train-right_of-{i:05d}", split="train") for i in range(4)]
    scenes, _ = source.load_entries(entries, (96, 128))
    assert {scene.image.shape for scene in scenes} == {(96, 128, 3)}
    layouts = [sample_layout(scene_rng(3, i), relation="right of", counts=(0, 1), size=WIDE) for i in range(40)]
    assert all(layout.relations() == {"right of"} and render(layout).shape == (*WIDE, 3) for layout in layouts)
    assert max(place.box[2] for layout in layouts for place in layout.placements) > 85


def test_costs_are_those_of_the_images_pixels_and_the_maps_cells() -> None:
    square, wide = (sizes_of(load_run_config("mini-sd", {"backbone.size": size})) for size in (64, [64, 96]))
    assert (square.pixels, square.cells, square.latents) == (64 * 64, 16 * 16, 4 * 16 * 16)
    assert (wide.pixels, wide.cells, wide.latents) == (64 * 96, 11 * 16, 4 * 16 * 24)


def test_mini_sd_makes_reads_and_steers_wide_images(tmp_path: Path) -> None:
    """From a scene to a steered image and its picture, by a classifier of random weights."""
    run = load_run_config("mini-sd", {**FEW, "backbone.size": list(WIDE)})
    backbone = UNetBackbone.from_pretrained("mini-sd", size=WIDE)
    source = map_source(backbone, run.capture, run.backbone.steps)
    assert source.grid == (11, 16)
    entries = [Entry(image_id="train-above-00000", split="train")]
    scenes, _ = source_of(run.data).load_entries(entries, WIDE)
    noise = invert_scenes(backbone, scenes, run.inversion, steps=run.backbone.steps, batch=4)
    maps = collect_maps(backbone, noise, {scene.image_id: scene.image for scene in scenes}, source, batch=4)
    write_shard(tmp_path / "maps.parquet", maps, "test")
    dataset = MapDataset([tmp_path / "maps.parquet"], split="train", min_psnr=-100)
    assert dataset.source == source
    (batch,) = dataset.batches(8)
    assert batch.maps_BOMGG.shape == (2, 2, source.channels, 11, 16)

    config = ClassifierConfig(kind="conv", width=8)
    TrainedClassifier(model=build_classifier(config, source), config=config, source=source).save(tmp_path)
    classifier = TrainedClassifier.load(tmp_path)
    assert classifier.source == source
    classifier.log_probability(batch.maps_BOMGG, batch.capture_index_B)
    model = SteeredModel(backbone=backbone, classifier=classifier, run=run)
    result = model("a dog above a cat", seeds=[1])
    assert [image.size for image in result.images] == [(96, 64)] and result.gradients[0] > 0
    assert not torch.equal(result.pixels, result.plain_pixels)
    assert all(0 <= x <= 96 and 0 <= y <= 64 for d in result.judge()[0].detections for x, y in (d.box[:2], d.box[2:]))
    assert result.comparison().width > 2 * 128 * 96 / 64
    of_squares = TrainedClassifier.load(SHIPPED / "classifiers" / "mini-sd")
    with pytest.raises(UserError, match=r"this classifier belongs to other maps: .*grid 16 != \(11, 16\)"):
        SteeredModel(backbone=backbone, classifier=of_squares, run=run)("a dog above a cat")
    with pytest.raises(UserError, match=r"latents are \[4, 16, 16\] .* \[4, 16, 24\]; give the pipeline height=64 and"):
        model.steerer("a dog above a cat")(torch.zeros(1, 4, 16, 16), 0)


def test_pictures_of_wide_images_do_not_cover_each_other() -> None:
    pictures = [np.full((*WIDE, 3), shade, np.uint8) for shade in (40, 200)]
    unseen = judged_image(0)
    sheets = [
        stacked_grid({"plain": pictures}, {"plain": [unseen, unseen]}, side=64),
        comparison_grid({"a": pictures[:1], "b": pictures[1:]}, {"a": [unseen], "b": [unseen]}, side=64),
    ]
    for sheet in sheets:
        shades = np.asarray(sheet.convert("L"))[60]
        assert (shades == 40).sum() == 96 and (shades == 200).sum() == 96
