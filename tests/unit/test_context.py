"""The maps of the phrase before a pair: how they are taken, learned from and steered by."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from l2s_core.attention.pairs import pair_maps
from l2s_core.classifier.augmentation import augment_batch
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.model import build_classifier
from l2s_core.classifier.symmetry import augment
from l2s_core.classifier.training import train_classifier
from l2s_core.config import CaptureConfig, ClassifierConfig, InversionConfig, SteeringConfig
from l2s_core.data.miniworld import Miniworld
from l2s_core.data.scenes import PromptForm, images_of
from l2s_core.dataset.collect import collect_maps, map_source
from l2s_core.dataset.reader import MapDataset
from l2s_core.dataset.recorder import Recorder
from l2s_core.dataset.schema import MapSource
from l2s_core.dataset.trajectories import sample_maps, trajectories_of
from l2s_core.dataset.writer import write_shard
from l2s_core.diffusion.noise import initial_noise, invert_scenes
from l2s_core.diffusion.sampler import Batch, Sampler
from l2s_core.errors import UserError
from l2s_core.prompts.pairs import related_pairs
from l2s_core.prompts.prompt import parse_several
from l2s_core.relations import PLANAR
from l2s_core.steering.steering import steer_by

CAPTURE = CaptureConfig(steps=(1,), grid=8, context=True)
STEPS = 4
TWO, THREE, FOUR = map(
    parse_several,
    ["a dog above a cat", "a dog above a cat below an apple", "a dog above a cat and an apple below a donut"],
)


@pytest.fixture(scope="module")
def crowd():
    """A scene of two objects and one of four, in the split of training."""
    world = Miniworld(train=6, val=1, test=1, counts=(0.25,) * 4, diagonals=0.3)
    scenes = [s for s in world.make_scenes(world.scene_ids()) if s.split == "train"]
    sizes = {len({name for t in s.true for name in (t.subject, t.object)}): s for s in scenes}
    return [sizes[count] for count in (2, 4)]


def test_the_third_stack_is_the_phrase_before_the_pair() -> None:
    """Zero where the pair stands first; the order of the pair's two phrases does not matter."""
    maps = torch.rand(2, 5, 3, 4, 6)
    image = torch.tensor([0, 0, 1, 1])
    phrases = torch.tensor([[0, 1], [3, 2], [1, 4], [1, 0]])
    found = pair_maps(maps, image, phrases, context=True)
    assert found.shape == (4, 3, 3, 4, 6)
    none = torch.zeros(3, 4, 6)
    for row, before in enumerate([none, maps[0, 1], maps[1, 0], none]):
        assert torch.equal(found[row, :2], maps[image[row], phrases[row]]) and torch.equal(found[row, 2], before)
    assert torch.equal(pair_maps(maps, image, phrases), found[:, :2])


def test_records_hold_it_and_a_classifier_learns_from_it(backbone, crowd, tmp_path) -> None:
    """Of inverted scenes and of own sampling: its sum is 1 where a phrase stands before the pair, and else 0."""
    source = map_source(backbone, CAPTURE, STEPS)
    noise = invert_scenes(
        backbone, crowd, InversionConfig(min_psnr=5), steps=STEPS, batch=8, form=PromptForm(diagonals=True)
    )
    inverted = collect_maps(backbone, noise, images_of(crowd), source, batch=8)
    trajectories = trajectories_of(crowd, 1, PLANAR, diagonals=True)
    held = [[frozenset({"above"})] * len(related_pairs(t.prompt)) for t in trajectories]
    sampler = Sampler(backbone=backbone, steps=STEPS, guidance=1.0, batch=8)
    sampled = sample_maps(sampler, trajectories, source, label=lambda *_: held, relations=PLANAR)
    for shard in (inverted, sampled):
        sums = shard.maps_NOMGG[:, 2].astype(float).sum((-1, -2))
        for record, found in zip(shard.records, sums, strict=True):
            before = parse_several(record.prompt).objects[0] not in (record.subject, record.object)
            assert found == pytest.approx(np.full(source.channels, float(before)), abs=2e-3)
    write_shard(tmp_path / "m.parquet", inverted, "c")
    data = MapDataset([tmp_path / "m.parquet"], split="train")
    assert data.source == source and next(data.batches(4)).maps_BOMGG.shape[1:] == (3, source.channels, 8, 8)
    for kind in ("conv", "transformer"):
        config = ClassifierConfig(kind=kind, width=16, epochs=1, labels="multi", augment="symmetry", shift=1)
        assert np.isfinite(train_classifier(config, data, data).history[0]["val_loss"])


def test_symmetries_leave_the_context_in_its_place() -> None:
    """Exchanging subject and object exchanged whatever stood first and last."""
    maps = torch.arange(3.0).view(1, 3, 1, 1, 1).expand(64, 3, 2, 4, 4)
    truth = torch.tensor([[True, False, False, False]]).expand(64, 4)
    moved, _ = augment(maps, truth, torch.Generator().manual_seed(0), PLANAR)
    assert (moved[:, 2] == 2).all() and set(moved[:, 0].unique().tolist()) == {0.0, 1.0}


def test_mirrors_leave_subject_and_object_in_their_places() -> None:
    """In training, and where a classifier answers with the mean over what its maps look like in mirrors."""
    config = ClassifierConfig(kind="conv", augment="mirrors", group_average=True, width=8)
    maps = torch.zeros(256, 3, 2, 4, 4)
    maps[:, 0, :, 0, 1], maps[:, 1, :, 3, 1], maps[:, 2, :, 2, 1] = 1, 2, 3  # above
    truth = torch.tensor([[False, False, True, False]]).expand(256, 4)
    moved, labels = augment_batch(config, maps, truth, torch.Generator().manual_seed(0), PLANAR)
    assert [set(moved[:, n].unique().tolist()) for n in range(3)] == [{0.0, 1.0}, {0.0, 2.0}, {0.0, 3.0}]
    assert len(moved.unique(dim=0)) == 8 and (labels.sum(0) > 30).all()

    source = MapSource(backbone="", layers=("a",), channels=2, grid=4, steps=(0,), schedule_steps=1, context=True)
    model = build_classifier(config, source).eval()
    step = torch.zeros(8, dtype=torch.long)
    noise = torch.rand(8, 3, 2, 4, 4)
    logits = model(noise, step)
    torch.testing.assert_close(model(noise.flip(-1), step), logits[:, [1, 0, 2, 3]])
    assert (model(noise[:, [1, 0, 2]], step) - logits[:, [1, 0, 3, 2]]).abs().max() > 1e-3


def test_steering_reads_what_was_recorded(backbone) -> None:
    """The loss of a pair is that of the recorded maps, with their third stack, whatever shares its batch."""
    source = map_source(backbone, CAPTURE, STEPS)
    config = ClassifierConfig(kind="conv", width=8, labels="multi")
    model = build_classifier(config, source).eval().requires_grad_(False)
    classifier = TrainedClassifier(model=model, config=config, source=source)
    prompts = [TWO, THREE, FOUR]
    batch = Batch.of(backbone, prompts, steps=STEPS)
    latents = initial_noise([0, 1, 2], backbone.latent_shape)
    steer = steer_by(classifier, SteeringConfig(until_step=2, updates=1, step_size=0.1, normalize="rms"))(batch)
    recorder = partial(Recorder, source=source, dtype=torch.float32)(batch)
    recorder(latents, 1)
    pairs = [(image, pair) for image, prompt in enumerate(prompts) for pair in related_pairs(prompt)]
    image, places = torch.tensor([i for i, _ in pairs]), torch.tensor([p.places for _, p in pairs])
    with torch.no_grad():
        found = steer._loss(latents, torch.arange(3), 1, steer.targets)
        maps = pair_maps(recorder.maps[1], image, places, context=True)
        log_p = classifier.log_probability(maps, torch.zeros(len(pairs), dtype=torch.long))
        alone = maps * torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1, 1)
        other = classifier.log_probability(alone, torch.zeros(len(pairs), dtype=torch.long))
    expected = -log_p[torch.arange(len(pairs)), steer.targets.label_P]
    assert torch.allclose(found, expected, atol=1e-5)
    changed = (other != log_p).any(1)
    assert changed.tolist() == [min(pair.places) > 0 for _, pair in pairs] and changed.any()


def test_a_classifier_without_it_refuses_maps_with_it(backbone) -> None:
    with_it, without = (map_source(backbone, CAPTURE.model_copy(update={"context": c}), STEPS) for c in (True, False))
    config = ClassifierConfig(kind="conv", width=8)
    classifier = TrainedClassifier(model=build_classifier(config, without), config=config, source=without)
    with pytest.raises(UserError, match="context False != True"):
        classifier.require(with_it)
