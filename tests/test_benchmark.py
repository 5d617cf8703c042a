"""The benchmark's prompts: two suites that share nothing, three kinds of pair, balanced relations."""

from __future__ import annotations

from collections import Counter

import pytest

from l2s_core.config import BenchmarkConfig, DataConfig
from l2s_core.data.miniworld import make_scenes, partition_pairs, scene_ids
from l2s_core.data.scenes import PROMPT_KINDS, scene_prompt
from l2s_core.errors import UserError
from l2s_core.evaluation.aggregate import summarise
from l2s_core.evaluation.benchmark import benchmark_items, suite_triplets
from l2s_core.miniworld.scenes import render, sample_layout, scene_rng

DATA = DataConfig(source="miniworld", train=4, val=2, test=2, held_out_objects=("zebra", "boat", "umbrella", "clock"))
PAIRS = partition_pairs(DATA)


def items(suite: str, prompts: int = 24, seeds: int = 2):
    return benchmark_items(BenchmarkConfig(suite=suite, prompts=prompts, seeds=seeds), PAIRS)


def test_development_and_test_share_neither_prompts_nor_noise() -> None:
    dev, test = items("dev"), items("test")
    assert not {i.prompt.text for i in dev} & {i.prompt.text for i in test}
    assert len({i.seed for i in dev + test}) == len(dev + test)
    for split in PAIRS:
        halves = [{str(t) for t in suite_triplets(suite, PAIRS[split])} for suite in ("dev", "test")]
        assert not halves[0] & halves[1]


def test_relations_are_balanced_and_pairs_are_what_they_are_called() -> None:
    for split in PAIRS:
        part = [i for i in items("test") if i.pair_split == split]
        assert set(Counter(i.prompt.triplet.relation for i in part).values()) == {len(part) // 4}
        for item in part:
            pair = {item.prompt.triplet.subject, item.prompt.triplet.object}
            assert len(pair & set(DATA.held_out_objects)) == (2 if split == "novel" else 0)
    trained = {frozenset((s.triplet.subject, s.triplet.object)) for s in make_scenes(DATA, scene_ids(DATA))}
    assert trained <= {frozenset(p) for p in PAIRS["seen"]}
    assert not {frozenset(p) for p in PAIRS["seen"]} & {frozenset(p) for p in PAIRS["unseen"]}


def test_asking_for_more_prompts_than_there_are() -> None:
    with pytest.raises(UserError, match="benchmark.prompts is 999, but the test suite has .* raise benchmark.seeds"):
        items("test", prompts=999)


def test_wrong_prompts_are_wrong_and_the_same_in_every_process() -> None:
    """Wrong prompts once changed from process to process with the string hash."""
    scenes = make_scenes(DATA, scene_ids(DATA))
    for scene in scenes:
        true, wrong = (scene_prompt(scene.image_id, scene.triplet, kind) for kind in PROMPT_KINDS)
        assert true.triplet == scene.triplet and wrong.triplet.relation != scene.triplet.relation
    stated = [scene_prompt(s.image_id, s.triplet, "neg").triplet.relation for s in scenes]
    assert stated[:6] == ["right of", "below", "right of", "right of", "right of", "below"]


def test_a_scene_depends_on_its_id_alone() -> None:
    ids = scene_ids(DATA)
    together, alone = make_scenes(DATA, ids)[5], make_scenes(DATA, ids[5:6])[0]
    assert together.image_id == alone.image_id and (together.image == alone.image).all()
    assert (render(sample_layout(scene_rng(3, 4))) == render(sample_layout(scene_rng(3, 4)))).all()


def test_summaries_count_what_was_judged() -> None:
    base = {"relation": "above", "pair_split": "seen", "both": True, "detections": [1, 2], "gradients": 4, "checks": 1, "skipped": 0, "seconds": 0.5}
    rows = [{**base, "correct": True}, {**base, "correct": False, "relation": "below", "detections": [1, 2, 3]}]
    summary = summarise(rows)
    assert summary["correct"]["rate"] == 0.5 and summary["correct"]["low"] < 0.5 < summary["correct"]["high"]
    assert summary["by_relation"]["above"]["rate"] == 1.0 and summary["by_relation"]["below"]["hits"] == 0
    assert summary["extra"]["hits"] == 1 and summary["gradients"] == 4 and summary["seconds"] == 0.5
