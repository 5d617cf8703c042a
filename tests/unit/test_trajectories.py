"""Maps of the backbone's own sampling.

What is sampled, what is recorded, how it is labelled, and who learns from it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import run_of
from helpers.small_run import SETTINGS, numbers

from l2s_core.attention.reader import AttentionReader
from l2s_core.config import ClassifierConfig, load_run_config
from l2s_core.data.scenes import Scene
from l2s_core.dataset.collect import map_source
from l2s_core.dataset.reader import MapDataset
from l2s_core.dataset.trajectories import NO_PSNR, sample_maps, trajectories_of
from l2s_core.diffusion.sampler import Sampler
from l2s_core.diffusion.sampling import initial_noise, sample
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.load import load_judge
from l2s_core.evaluation.labels import ShownRelations, shown_relations
from l2s_core.planning.estimate import work_of
from l2s_core.planning.sweep_plan import stages_left
from l2s_core.prompts.prompt import prompt_for
from l2s_core.relations import PLANAR, Triplet
from l2s_core.storage.run_paths import RunPaths

PIXELS = np.zeros((64, 64, 3), np.uint8)
PROMPT = prompt_for(Triplet(subject="dog", relation="above", object="cat"))


def scene(number: int, *, split: str = "train", relation: str = "above") -> Scene:
    return Scene(
        image_id=f"s{number}",
        split=split,
        image=PIXELS,
        triplet=Triplet(subject="dog", relation=relation, object="cat"),
    )


def seen(**boxes: tuple[float, tuple[int, int, int, int]]) -> list[Detection]:
    return [Detection(name=name, score=score, box=box) for name, (score, box) in boxes.items()]


def test_prompts_are_of_the_scenes_objects_and_state_anything() -> None:
    scenes = [scene(i, split="val" if i % 4 == 0 else "train") for i in range(100)]
    found = trajectories_of(scenes, 3, PLANAR)
    assert (
        found == trajectories_of(scenes, 3, PLANAR)
        and len({t.seed for t in found}) == len({t.image_id for t in found}) == 300
    )
    assert [t.split for t in found[::3]] == [s.split for s in scenes]
    triplets = [t.prompt.triplet for t in found]
    assert {(t.subject, t.object) for t in triplets} == {("dog", "cat"), ("cat", "dog")}
    shares = [sum(t.relation == name for t in triplets) / 300 for name in PLANAR]
    assert min(shares) > 0.15 and 0.4 < sum(t.prompt.text.startswith("a photo of") for t in found) / 300 < 0.6
    assert {t.prompt.triplet.relation for t in trajectories_of(scenes, 3, PLANAR[:2])} == set(PLANAR[:2])
    assert trajectories_of([scene(0, relation="is")], 3, PLANAR) == []


@pytest.mark.parametrize(
    ("boxes", "shown"),
    [
        ({"dog": (0.9, (20, 0, 30, 10)), "cat": (0.9, (20, 40, 30, 50))}, {"above"}),
        ({"dog": (0.9, (50, 20, 60, 30)), "cat": (0.9, (0, 20, 10, 30))}, {"right of"}),
        ({"dog": (0.9, (0, 0, 10, 10)), "cat": (0.9, (40, 40, 50, 50))}, {"left of", "above"}),
        ({"dog": (0.9, (20, 20, 40, 40)), "cat": (0.9, (20, 20, 40, 40))}, set()),
        ({"dog": (0.9, (20, 0, 30, 10))}, set()),
        ({"dog": (0.9, (20, 0, 30, 10)), "cat": (0.3, (20, 40, 30, 50))}, set()),  # not above the score
    ],
)
def test_labels_are_the_relations_that_hold(boxes: dict, shown: set[str]) -> None:
    assert shown_relations(PROMPT, seen(**boxes), 0.3) == [shown]


def test_recording_moves_nothing_and_maps_are_those_of_the_way(backbone) -> None:
    run = load_run_config("mini-sd", SETTINGS | {"classifiers": {}})
    source = map_source(backbone, run.capture, 6)
    judge = load_judge("mini-seg")
    found = trajectories_of([scene(i) for i in range(12)], 1, PLANAR)
    make = Sampler(backbone=backbone, steps=6, guidance=5.0, batch=12)
    label = ShownRelations(judge=judge, min_score=0.3)
    shard = sample_maps(make, found, source, label=label, relations=PLANAR)
    records = shard.records

    prompts = [t.prompt for t in found]
    seeds = [t.seed for t in found]
    images = make(prompts, seeds).images
    shown = [shown_relations(p, d, 0.3)[0] for p, d in zip(prompts, judge.detect(images.numpy()), strict=True)]
    kept = [row for row, held in enumerate(shown) if len(held) == 1]
    assert 3 <= len(kept) < 12, "the seeds should give images of both kinds"
    assert [r.image_id for r in records[::2]] == [found[row].image_id for row in kept]
    assert [set(r.true) for r in records[::2]] == [shown[row] for row in kept]
    assert all((r.prompt_kind == "pos") == (r.stated == r.true) for r in records) and {r.step for r in records} == {
        1,
        2,
    }
    assert (
        {r.prompt_kind for r in records} == {"pos", "neg"}
        and all(np.isnan(r.psnr) for r in records)
        and np.isnan(NO_PSNR)
    )

    schedule = backbone.schedule(6)
    condition = backbone.encode_prompts([p.text for p in prompts], guidance=5.0)
    free = backbone.encode_prompts([p.text for p in prompts])
    weights = backbone.phrase_weights(prompts)
    seen_maps = {}

    @torch.no_grad()
    def look(latents, step):
        maps_BOMGG = AttentionReader(backbone).read(latents, schedule.timesteps[step], free, weights)
        seen_maps[step] = maps_BOMGG.half().numpy()
        return latents

    sample(backbone, initial_noise(seeds, backbone.latent_shape), condition, schedule, [look])
    assert np.array_equal(shard.maps_NOMGG, np.stack([seen_maps[step][row] for row in kept for step in (1, 2)]))

    small = replace(make, batch=5)
    few = sample_maps(small, found, source, label=label, relations=("left of",)).records
    assert [r.image_id for r in few] == [r.image_id for r in records if r.true == ("left of",)]
    none = sample_maps(small, [], source, label=label, relations=PLANAR)
    assert none.records == [] and none.maps_NOMGG.shape == (0, *shard.maps_NOMGG.shape[1:])


@pytest.mark.server
@pytest.mark.slow
def test_the_run_keeps_kinds_of_maps_apart(undisturbed: Path) -> None:
    shards = {kind: sorted(undisturbed.glob(f"stages/{kind}/*/*.parquet")) for kind in ("maps", "trajectories")}
    assert len(shards["maps"]) == len(shards["trajectories"]) == 3
    frames = {kind: MapDataset(paths, split="train").frame() for kind, paths in shards.items()}
    assert set(frames["maps"].image_id).isdisjoint(frames["trajectories"].image_id)
    assert frames["maps"].psnr.notna().all() and frames["trajectories"].psnr.isna().all()
    summary = numbers(undisturbed)
    entries = summary["classifiers"]
    assert entries["main"]["result"]["test"] == pytest.approx(entries["main"]["by_maps"]["inverted"])
    assert entries["sampled"]["result"]["test"] == pytest.approx(entries["sampled"]["by_maps"]["trajectories"])
    assert entries["main"]["by_maps"]["trajectories"]["loss"] != entries["main"]["by_maps"]["inverted"]["loss"]
    assert entries["sampled"]["result"]["records"]["train"] == len(frames["trajectories"])
    images = {
        row
        for path in shards["trajectories"]
        for split in ("train", "val", "test")
        for row in MapDataset([path], split=split).frame().image_id
    }
    assert summary["trajectories"] == {"images": 16, "kept": len(images)} and 0 < len(images) < 16
    page = (undisturbed / "reports" / "tiny" / "report.html").read_text()
    assert "test, while sampling" in page and "own sampling" in page


def test_a_classifier_depends_on_the_maps_it_learns_from(tmp_path: Path) -> None:
    def paths(**settings: Any) -> RunPaths:
        return run_of(tmp_path, classifiers={}, **settings).paths

    before = paths(trajectories=0, classifier__maps="inverted")
    beside = paths(trajectories=2, classifier__maps="inverted")
    assert (
        before.classifier("main") == beside.classifier("main")
        and "maps" not in ClassifierConfig(kind="conv").model_dump()
    )
    sampled, both, more = (
        paths(trajectories=n, classifier__maps=maps)
        for n, maps in ((2, "trajectories"), (2, "both"), (3, "trajectories"))
    )
    assert len({s.classifier("main") for s in (before, sampled, both, more)}) == 4
    other_judge = run_of(tmp_path, sampled.config, inputs={"judge": "other"}).paths
    assert other_judge.trajectories != sampled.trajectories and other_judge.maps == sampled.maps
    assert sampled.map_folders == {"trajectories": sampled.trajectories} and set(both.map_folders) == {
        "inverted",
        "trajectories",
    }


def test_nothing_is_inverted_for_nobody(tmp_path: Path) -> None:
    settings = {"classifiers": {}, "trajectories": 2, "classifier.maps": "trajectories"}
    alone, beside = (
        load_run_config("mini-sd", settings | more) for more in ({}, {"classifiers": {"paper": {"maps": "inverted"}}})
    )
    work = work_of(alone)
    scenes = 4 * (alone.data.train + alone.data.val + alone.data.test)
    assert (
        "invert" not in work
        and work["trajectories"].guided == 2 * scenes * 20
        and work["trajectories"].forwards == 2 * scenes * 8
    )
    assert {"invert", "capture", "trajectories"} < set(work_of(beside))
    points = [run_of(tmp_path, config) for config in (alone, beside, load_run_config("mini-sd"))]
    left = stages_left(points, None)
    rows = {row.stage: (row.wanted, row.distinct) for row in left}
    assert rows["invert"] == rows["capture"] == (2, 1) and rows["trajectories"] == (3, 1) and rows["train"] == (6, 5)
    assert all(row.bytes > 0 for row in left if row.stage != "train")


def test_maps_that_nobody_samples_are_refused() -> None:
    none = {"trajectories": 0, "classifier.maps": "inverted", "classifiers": {}}
    with pytest.raises(
        UserError, match=r"classifier.maps is trajectories, but the run samples none; set trajectories to 1 or more"
    ):
        load_run_config("mini-sd", none | {"classifier.maps": "trajectories"})
    with pytest.raises(UserError, match=r"classifiers.x.maps is both"):
        load_run_config("mini-sd", none | {"classifiers": {"x": {"maps": "both"}}})
    assert "trajectories" not in json.loads(load_run_config("mini-sd", none).model_dump_json())
