"""Scenes of two to five objects for the classifier: the pairs they give, their prompts, and what is true of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from l2s_core.classifier.labels import Labels, all_read, hits
from l2s_core.classifier.symmetry import augment, symmetries_of
from l2s_core.config import CaptureConfig, InversionConfig, load_run_config
from l2s_core.data.miniworld import Miniworld
from l2s_core.data.scene_shards import load_scenes, save_scenes
from l2s_core.data.scenes import PromptForm, PromptKind, images_of, prompt_of, scene_prompt
from l2s_core.dataset.collect import collect_maps, map_source
from l2s_core.dataset.reader import MapDataset
from l2s_core.dataset.trajectories import sample_maps, trajectories_of
from l2s_core.dataset.writer import write_shard
from l2s_core.diffusion.noise import invert_scenes, load_noise, save_noise
from l2s_core.diffusion.sampler import Sampler
from l2s_core.errors import UserError
from l2s_core.prompts.chains import FORMS, chained_prompt
from l2s_core.prompts.pairs import related_pairs, relations_by_pair
from l2s_core.prompts.prompt import SeveralPrompt, parse_several
from l2s_core.relations import DIAGONALS, LABELS, PLANAR, Triplet

SIZES = {"train": 6, "val": 1, "test": 1}
HELD_OUT = ("zebra", "boat", "umbrella", "clock")
CROWDED = Miniworld(**SIZES, held_out_objects=HELD_OUT, counts=(0.25, 0.25, 0.25, 0.25), diagonals=0.3)
DIAGONAL_FORM = PromptForm(diagonals=True)


@pytest.fixture(scope="module")
def scenes():
    return CROWDED.make_scenes(CROWDED.scene_ids())


def objects_of(scene) -> set[str]:
    return {name for t in scene.true for name in (t.subject, t.object)}


def test_the_default_is_what_it_was() -> None:
    plain = Miniworld(**SIZES, held_out_objects=HELD_OUT)
    spelt_out = Miniworld(**SIZES, held_out_objects=HELD_OUT, counts=(1.0,), diagonals=0.0)
    assert plain.digest() == spelt_out.digest() and "counts" not in plain.identity()
    assert plain.pairs_a_scene == 1 and not plain.states_diagonals
    assert {len(s.true) for s in plain.make_scenes(plain.scene_ids()[:8])} == {1}
    assert plain.digest() != CROWDED.digest()
    assert load_run_config("mini-sd").data.digest() == "530afcb2c797a1ca"


def test_scenes_relate_seen_pairs_alone_and_know_all_that_is_true_of_them(scenes) -> None:
    seen = {frozenset(pair) for pair in CROWDED.pair_groups()["seen"]}
    counted: Counter[tuple[int, int]] = Counter()
    for scene in scenes:
        pairs = relations_by_pair(scene.true)
        assert {frozenset(pair) for pair in pairs} <= seen and not objects_of(scene) & set(HELD_OUT)
        assert all(len(names) == 1 or names in DIAGONALS or names[::-1] in DIAGONALS for names in pairs.values())
        assert scene.triplet.relation == scene.image_id.rsplit("-", 2)[1].replace("_", " ")
        counted[len(objects_of(scene)), len(pairs)] += 1
    assert set(counted) == set(FORMS)
    first = [len(relations_by_pair(s.true)[s.triplet.subject, s.triplet.object]) for s in scenes]
    assert 0.15 < first.count(2) / len(first) < 0.5
    one_each = CROWDED.model_copy(update={"diagonals": 0.0}).make_scenes(CROWDED.scene_ids()[:12])
    assert all(len(names) == 1 for s in one_each for names in relations_by_pair(s.true).values())
    assert max(len(s.true) for s in one_each) == 3


def test_scenes_depend_on_their_id_alone_and_survive_the_disk(scenes, tmp_path) -> None:
    (again,) = CROWDED.make_scenes([scenes[5].image_id])
    assert again.true == scenes[5].true and np.array_equal(again.image, scenes[5].image)
    save_scenes(tmp_path / "s.safetensors", scenes, 64)
    assert [s.true for s in load_scenes(tmp_path / "s.safetensors")] == [s.true for s in scenes]


def test_prompts_name_every_object_and_are_wholly_true_or_wrong_of_every_pair(scenes) -> None:
    diagonals = 0
    for scene in scenes:
        true = relations_by_pair(scene.true)
        for kind in PromptKind:
            prompt = prompt_of(scene, kind, DIAGONAL_FORM)
            read = parse_several(prompt.text)
            assert (read.objects, read.spans) == (prompt.objects, prompt.spans)
            assert set(read.triplets) == set(prompt.triplets) and set(prompt.objects) == objects_of(scene)
            for pair in related_pairs(prompt):
                held = set(true[pair.subject, pair.object])
                assert (set(pair.stated) <= held) == (kind is PromptKind.POS)
                assert len(pair.stated) == 1 or len(true) == 1
                diagonals += len(pair.stated) == 2
    assert diagonals > 4
    single = replace(scenes[0], also=())
    for kind in PromptKind:
        assert prompt_of(single, kind) == scene_prompt(single.image_id, single.triplet, kind)


def test_a_sentence_that_would_name_an_object_twice_is_refused() -> None:
    ring = [Triplet(subject=a, relation="above", object=b) for a, b in (("dog", "cat"), ("cat", "cup"), ("cup", "dog"))]
    with pytest.raises(UserError, match="'dog' would stand in two places"):
        chained_prompt(ring)
    with pytest.raises(UserError, match="no relations"):
        chained_prompt([])


def test_shares_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match=r"shares of all scenes; they come to 0\.9"):
        load_run_config("mini-sd", {"data.counts": [0.5, 0.4]})
    with pytest.raises(UserError, match="diagonals show two of all four relations"):
        load_run_config("mini-sd", {"data.diagonals": 0.2, "data.relations": ["above", "below"]})
    few = CROWDED.model_copy(update={"held_out_pairs": 0.97})
    with pytest.raises(UserError, match="objects can be chained by pairs that the classifier may meet"):
        few.make_scenes(few.scene_ids())


def test_maps_of_a_pair_are_those_of_its_own_phrases(backbone, scenes, tmp_path) -> None:
    """Of a scene of three objects and of one of two, in one batch: one record a pair, labelled by what holds of it."""
    sizes = {len(objects_of(s)): s for s in scenes}
    chosen = [sizes[3], sizes[2]]
    noise = invert_scenes(
        backbone, chosen, InversionConfig(iterations=1, min_psnr=5), steps=4, batch=4, form=DIAGONAL_FORM
    )
    save_noise(tmp_path / "n.safetensors", noise)
    loaded = load_noise(tmp_path / "n.safetensors")
    assert [(row.true, row.prompt.spans) for row in loaded.rows] == [(row.true, row.prompt.spans) for row in noise.rows]
    source = map_source(backbone, CaptureConfig(steps=(1, 2)), 4)
    shard = collect_maps(backbone, loaded, images_of(chosen), source, batch=4)
    assert len(shard.records) == 2 * 2 * (2 + 1)
    for record, maps in zip(shard.records, shard.maps_NOMGG, strict=True):
        (scene,) = (s for s in chosen if s.image_id == record.image_id)
        assert record.true == relations_by_pair(scene.true)[record.subject, record.object]
        (row,) = (r for r in loaded.rows if r.prompt.text == record.prompt)
        alone = SeveralPrompt(
            text=row.prompt.text,
            triplets=(Triplet(subject=record.subject, relation="above", object=record.object),),
            objects=(record.subject, record.object),
            spans=tuple(row.prompt.spans[row.prompt.objects.index(name)] for name in (record.subject, record.object)),
        )
        place = loaded.rows.index(row)
        own = replace(loaded, rows=[replace(row, prompt=alone)], noise=loaded.noise[[place]])
        expected = collect_maps(backbone, own, images_of(chosen), source, batch=1).maps_NOMGG[
            source.steps.index(record.step)
        ]
        assert np.abs(maps.astype(float) - expected).max() < 1e-4
    write_shard(tmp_path / "m.parquet", shard, "c")
    dataset = MapDataset([tmp_path / "m.parquet"], split=chosen[0].split)
    (batch,) = dataset.batches(99)
    assert batch.truth_BR.sum(1).tolist() == [len(r.true) for r in shard.records if r.split == chosen[0].split]


def test_own_sampling_states_relations_of_all_objects_and_every_pair_is_labelled(backbone, scenes) -> None:
    found = trajectories_of(scenes, 2, PLANAR, diagonals=True)
    by_scene = {s.image_id: s for s in scenes}
    for trajectory in found:
        scene = by_scene[trajectory.image_id.partition("+")[0]]
        prompt = trajectory.prompt
        assert set(prompt.objects) == objects_of(scene)
        assert len(related_pairs(prompt)) == len(relations_by_pair(scene.true))
    assert any(len(p.stated) == 2 for t in found for p in related_pairs(t.prompt))
    assert len({t.prompt.objects[0] == by_scene[t.image_id.partition("+")[0]].triplet.subject for t in found}) == 2

    few = [t for t in found if len(related_pairs(t.prompt)) == 2][:2] + [found[0]]
    held = [[frozenset({"above"}), frozenset({"left of", "above"})], [frozenset(), frozenset({"below"})]]
    held.append([frozenset({"left of"})] * len(related_pairs(few[2].prompt)))
    source = map_source(backbone, CaptureConfig(steps=(1,)), 2)
    make = Sampler(backbone=backbone, steps=2, guidance=1.0, batch=8)
    for diagonals, kept in ((True, held), (False, [[h for h in one if len(h) == 1] for one in held])):
        shard = sample_maps(make, few, source, label=lambda *_: held, relations=PLANAR, diagonals=diagonals)
        expected = [names for one in kept for names in one if names]
        assert [set(record.true) for record in shard.records] == expected
        for record in shard.records:
            assert (record.prompt_kind == "pos") == (set(record.stated) <= set(record.true))


def test_losses_of_one_true_label_agree_and_of_two_have_their_least_value_where_they_should() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = torch.eye(4, dtype=torch.bool)[[0, 1, 2, 3, 1]]
    expected = torch.nn.functional.cross_entropy(logits, one.long().argmax(1), reduction="none")
    for labels in (Labels.SINGLE, Labels.SOFT):
        torch.testing.assert_close(labels.loss(logits, one), expected)
    p = logits.sigmoid()
    torch.testing.assert_close(Labels.MULTI.loss(logits, one), -torch.where(one, p, 1 - p).log().sum(1))
    diagonal = torch.tensor([[True, False, True, False]])
    halves = torch.tensor([[9.0, -9.0, 9.0, -9.0]], dtype=torch.float64)
    assert Labels.SOFT.loss(halves, diagonal).item() == pytest.approx(np.log(2), abs=1e-6)
    assert Labels.MULTI.loss(halves, diagonal).item() < 1e-3
    sure_of_one = torch.tensor([[30.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    assert Labels.SINGLE.loss(sure_of_one, diagonal).item() < 1e-6  # any true label is right
    assert hits(sure_of_one, diagonal).item() and not all_read(sure_of_one, diagonal).item()
    assert all_read(halves, diagonal).item() and not hits(-halves, diagonal).item()


@pytest.mark.parametrize("count", [4, 5])
def test_a_powerset_has_a_class_for_every_diagonal(count: int) -> None:
    """Its loss is cross-entropy to the class, and a relation's probability the sum over the classes that hold it."""
    assert Labels.POWERSET.outputs(count) == count + 4
    logits = torch.randn(3, count + 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = torch.zeros(3, count, dtype=torch.bool)
    truth[0, 1] = truth[1, 0] = truth[1, 2] = truth[2, 1] = truth[2, 3] = True
    corners = {("left of", "above"): count, ("right of", "below"): count + 3}
    classes = torch.tensor([1, corners["left of", "above"], corners["right of", "below"]])
    expected = torch.nn.functional.cross_entropy(logits, classes, reduction="none")
    torch.testing.assert_close(Labels.POWERSET.loss(logits, truth), expected)
    p = logits.softmax(1)
    of_left, of_below = p[:, 0] + p[:, count] + p[:, count + 2], p[:, 3] + p[:, count + 2] + p[:, count + 3]
    found = Labels.POWERSET.log_probability(logits).exp()
    assert found.shape == (3, count)
    torch.testing.assert_close(found[:, [0, 3]], torch.stack([of_left, of_below], 1))


def test_symmetries_move_both_labels_of_a_diagonal() -> None:
    truth = torch.tensor([[True, False, True, False]]).repeat(64, 1)  # left of and above
    maps = torch.zeros(64, 2, 1, 9, 9)
    maps[:, 0, 0, 1, 1] = 1
    maps[:, 1, 0, 6, 7] = 1
    moved, labels = augment(maps, truth, torch.Generator().manual_seed(0), PLANAR)
    grid = torch.arange(9.0)
    centre = torch.stack([(moved.sum(-2) * grid).sum(-1), (moved.sum(-1) * grid).sum(-1)], -1)[:, :, 0]
    x, y = (centre[:, 0] - centre[:, 1]).sign().T
    assert torch.equal(labels, torch.stack([x < 0, x > 0, y < 0, y > 0], 1)) and len(labels.unique(dim=0)) == 4
    for symmetry in symmetries_of(LABELS):
        assert torch.equal(symmetry.labels_R[symmetry.labels_R], torch.arange(7))  # its own inverse, as augment needs
