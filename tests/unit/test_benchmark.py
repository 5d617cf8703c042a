"""The benchmark's prompts: two suites that share nothing, three kinds of pair, balanced relations."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from helpers.judged import MISSING, WRONG, judged_image

from l2s_core.config import load_run_config
from l2s_core.data.miniworld import Miniworld
from l2s_core.data.scenes import PromptKind, scene_prompt
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.judged_image import JudgedImage
from l2s_core.evaluation.methods.selection import judge_score
from l2s_core.evaluation.protocols.geneval import Geneval
from l2s_core.evaluation.protocols.geneval_rules import Clause, GenevalRecord
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.pairs import Pairs
from l2s_core.evaluation.protocols.protocol import Protocol, benchmark_items
from l2s_core.evaluation.protocols.several import Several
from l2s_core.evaluation.protocols.spatial import Spatial
from l2s_core.evaluation.protocols.spatial_rules import parse_prompt
from l2s_core.evaluation.protocols.suites import suite_triplets
from l2s_core.evaluation.protocols.verdict import RelationVerdict, Verdict
from l2s_core.evaluation.statistics.aggregate import MethodSummary
from l2s_core.miniworld.world.scenes import render, sample_layout
from l2s_core.miniworld.world.sprites import OBJECTS
from l2s_core.miniworld.world.streams import scene_rng
from l2s_core.prompts.prompt import SeveralPrompt, parse_several
from l2s_core.relations import Triplet

DATA = Miniworld(train=4, val=2, test=2, held_out_objects=("zebra", "boat", "umbrella", "clock"))
PAIRS = DATA.pair_groups()


def items(suite: str, prompts: int = 24, seeds: int = 2):
    return Pairs(suite=suite, prompts=prompts, seeds=seeds).items_of(PAIRS)


def test_development_and_test_share_neither_prompts_nor_noise() -> None:
    dev = items("dev")
    test = items("test")
    assert not {i.prompt.text for i in dev} & {i.prompt.text for i in test}
    assert len({i.seed for i in dev + test}) == len(dev + test)
    for split in PAIRS:
        halves = [{str(t) for t in suite_triplets(suite, PAIRS[split])} for suite in ("dev", "test")]
        assert not halves[0] & halves[1]


def test_relations_are_balanced_and_pairs_are_what_they_are_called() -> None:
    for split in PAIRS:
        part = [i for i in items("test") if i.prompt_group == split]
        assert set(Counter(i.prompt.triplet.relation for i in part).values()) == {len(part) // 4}
        for item in part:
            pair = {item.prompt.triplet.subject, item.prompt.triplet.object}
            assert len(pair & set(DATA.held_out_objects)) == (2 if split == "novel" else 0)
    trained = {frozenset((s.triplet.subject, s.triplet.object)) for s in DATA.make_scenes(DATA.scene_ids())}
    assert trained <= {frozenset(p) for p in PAIRS["seen"]}
    assert not {frozenset(p) for p in PAIRS["seen"]} & {frozenset(p) for p in PAIRS["unseen"]}


def test_asking_for_more_prompts_than_there_are() -> None:
    with pytest.raises(UserError, match="benchmark.prompts is 999, but the test suite has .* raise benchmark.seeds"):
        items("test", prompts=999)


def test_wrong_prompts_are_wrong_and_the_same_in_every_process() -> None:
    """Wrong prompts once changed from process to process with the string hash."""
    scenes = DATA.make_scenes(DATA.scene_ids())
    for scene in scenes:
        true, wrong = (scene_prompt(scene.image_id, scene.triplet, kind) for kind in PromptKind)
        assert true.triplet == scene.triplet and wrong.triplet.relation != scene.triplet.relation
    stated = [scene_prompt(s.image_id, s.triplet, PromptKind.NEG).triplet.relation for s in scenes]
    assert stated[:6] == ["right of", "below", "right of", "right of", "right of", "below"]


def test_a_scene_depends_on_its_id_alone() -> None:
    ids = DATA.scene_ids()
    together = DATA.make_scenes(ids)[5]
    alone = DATA.make_scenes(ids[5:6])[0]
    assert together.image_id == alone.image_id and (together.image == alone.image).all()
    assert (render(sample_layout(scene_rng(3, 4))) == render(sample_layout(scene_rng(3, 4)))).all()


def test_summaries_count_what_was_judged() -> None:
    find = Detection(name="dog", box=(0, 0, 1, 1), score=0.9)
    cost = {"gradients": 4, "checks": 1, "peak_bytes": 7}
    images = [
        judged_image(0, asks_for="above", detections=(find,) * 2, **cost),
        judged_image(1, WRONG, asks_for="below", detections=(find,) * 3, **cost),
    ]
    summary = MethodSummary.of(images)
    assert summary.correct.rate == 0.5 and summary.correct.low < 0.5 < summary.correct.high
    assert summary.by_relation["above"].rate == 1.0 and summary.by_relation["below"].hits == 0
    assert summary.extra.hits == 1 and summary.gradients == 4 and summary.seconds == 0.5 and summary.peak_bytes == 7
    assert summary.to_json()["correct"]["count"] == 2
    assert not {"single_relations", "lenient", "score"} & summary.to_json().keys()


def test_several_relations_and_soft_scores_are_summarised() -> None:
    def image(number: int, score: float, **held: bool) -> JudgedImage:
        relations = tuple(
            RelationVerdict(
                triplet=Triplet(subject="a", relation=name, object="b"),
                failure=None if holds else MISSING,
            )
            for name, holds in held.items()
        )
        verdict = Verdict(relations=relations, score=score, lenient=held["above"])
        return replace(judged_image(number), verdict=verdict)

    images = [image(0, 0.25, above=True, below=False), image(1, 0.75, above=True, left=True)]
    summary = MethodSummary.of(images)
    assert (summary.lenient.hits, summary.lenient.count) == (2, 2)
    assert MethodSummary.of([images[0], judged_image(3)]).lenient is None  # verdicts of an earlier version
    assert [JudgedImage.from_json(image.to_json()) for image in images] == images
    assert (summary.single_relations.hits, summary.single_relations.count) == (3, 4) and summary.peak_bytes is None
    assert {name: (rate.hits, rate.count) for name, rate in summary.by_relation.items()} == {
        "above": (2, 2),
        "below": (0, 1),
        "left": (1, 1),
    }
    assert summary.score.mean == 0.5
    assert summary.score.high - 0.5 == pytest.approx(1.96 * (0.125**0.5) / 2**0.5, rel=1e-3)
    assert summary.to_json()["peak_bytes"] is None and summary.to_json()["score"]["mean"] == 0.5
    partly = [images[0], replace(images[1], verdict=replace(images[1].verdict, score=None))]
    assert MethodSummary.of(partly).score is None


SUITES = {
    "geneval": {"benchmark.protocol": "geneval", "benchmark.tags": ["single_object", "two_object"]},
    "several": {"benchmark.protocol": "several", "benchmark.forms": ["3+2", "2+2", "5+3"]},
}


@pytest.mark.parametrize("protocol", SUITES)
def test_protocols_of_the_small_world(protocol: str) -> None:
    """Own prompts over the small world's objects; suites share neither prompts nor noise."""
    suites = {}
    for suite in ("dev", "test"):
        settings = {**SUITES[protocol], "benchmark.suite": suite, "benchmark.prompts": 6, "benchmark.seeds": 2}
        suites[suite] = benchmark_items(load_run_config("mini-sd", settings))
    dev, test = suites.values()
    kinds = 2 if protocol == "geneval" else 3
    assert len(test) == len({i.item_id for i in test}) == kinds * 6 * 2
    assert not {i.prompt.text for i in dev} & {i.prompt.text for i in test} and not {i.seed for i in dev} & {
        i.seed for i in test
    }
    assert all(set(i.prompt.objects) <= set(OBJECTS) for i in test)
    expected = {"single_object", "two_object"} if protocol == "geneval" else {"3-2-common", "2-2-common", "5-3-common"}
    assert {i.prompt_group for i in test} == expected


def test_items_are_judged_by_their_own_protocol() -> None:
    """One image, three questions."""
    boxes = {"dog": (5, 20, 15, 30), "cat": (40, 20, 50, 30), "apple": (40, 45, 50, 55)}
    found = [Detection(name=name, box=box, score=0.9) for name, box in boxes.items()]

    def verdict(text: str, protocol: type[Protocol] = Several) -> Verdict:
        item = EvalItem(item_id="i", prompt_group="x", prompt=parse_several(text), seed=0)
        return protocol(prompts=1).verdict(item, found, (64, 64), {})

    def held(judged: Verdict) -> list[bool]:
        return [relation.holds for relation in judged.relations]

    assert held(verdict("a dog left of a cat above an apple")) == [True, True]
    crossed = verdict("a dog left of a cat and an apple above a cat")
    assert (
        not crossed.correct
        and crossed.all_found
        and held(crossed) == [True, False]
        and crossed.reason == "apple is below, not above cat"
    )
    assert verdict("a dog right of a cat", Pairs).reason == "is left of, not right of"
    nothing = SeveralPrompt(text="a photo of a dog and a cat", triplets=(), objects=("dog", "cat"), spans=())
    record = GenevalRecord(tag="two_object", prompt=nothing.text, include=(Clause(name="dog"), Clause(name="cat")))
    item = EvalItem(item_id="i", prompt_group="two_object", prompt=nothing, seed=0, record=record, label="two_object")
    geneval = Geneval(prompts=1, tags=("two_object",))
    assert item.asks_for == "two_object" and geneval.verdict(item, found, (64, 64), {}).correct
    assert not geneval.verdict(item, found[1:], (64, 64), {}).all_found
    spatial = parse_prompt("a dog on the left of a cat")
    item = EvalItem(
        item_id="i", prompt_group="spatial", prompt=spatial.as_prompt(), seed=0, record=spatial, label=spatial.phrase
    )
    soft = Spatial(prompts=1).verdict(item, found, (64, 64), {})
    assert soft.correct and soft.score == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"benchmark.protocol": "geneval"}, "position is the protocol pairs for data.source miniworld"),
        ({"benchmark.protocol": "spatial"}, "data.source miniworld lacks"),
        (
            {"benchmark.protocol": "several", "benchmark.forms": ["2+1"], "benchmark.prompts": 999},
            "the test suite of one relation has 264; allowed: 1 to 264",
        ),
        ({"benchmark.protocol": "several", "benchmark.forms": ["9+2"]}, "benchmark.forms"),
        (
            {"benchmark.tags": ["two_object"]},
            "unknown key 'benchmark.tags'; allowed: .*relations.*; tags is a key of protocol geneval",
        ),
        ({"benchmark.file": "x.jsonl"}, "needs benchmark.protocol"),
        ({"benchmark.protocol": "several", "benchmark.file": "/nothing.jsonl"}, "missing file /nothing.jsonl"),
        ({"benchmark.protocol": "geneval", "benchmark.tags": ["counting"]}, "needs benchmark.file"),
        ({"benchmark.protocol": "several", "benchmark.objects": "novel", "benchmark.forms": ["5+3"]}, "over 4 names"),
    ],
)
def test_protocols_that_do_not_fit(settings, message: str) -> None:
    with pytest.raises(UserError, match=message):
        benchmark_items(load_run_config("mini-sd", settings))


def test_official_files_are_benchmarks(tmp_path) -> None:
    """Every protocol reads its own file and takes the first prompts of each kind."""
    rows = [
        {
            "tag": "two_object",
            "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1}],
            "prompt": "a photo of a dog and a cat",
        },
        {
            "tag": "position",
            "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}],
            "prompt": "a photo of a cat left of a dog",
        },
    ]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "spatial.txt").write_text(
        "a dog on the left of a cat\na cat next to a dog\na cat on the top of a dog\n"
    )
    several = {
        "prompt": "a dog above a cat to the left of an apple",
        "triplets": [
            {"subject": "dog", "relation": "above", "object": "cat"},
            {"subject": "cat", "relation": "left of", "object": "apple"},
        ],
    }
    (tmp_path / "several.jsonl").write_text(json.dumps(several) + "\n")

    def items(protocol: str, name: str, **more):
        settings = {
            "benchmark.protocol": protocol,
            "benchmark.file": str(tmp_path / name),
            "benchmark.prompts": 2,
            "benchmark.seeds": 2,
        }
        return benchmark_items(
            load_run_config("mini-sd", settings | {f"benchmark.{key}": value for key, value in more.items()})
        )

    geneval = items("geneval", "metadata.jsonl", tags=["position", "two_object"])
    assert [(i.prompt_group, i.asks_for, len(i.prompt.triplets)) for i in geneval[::2]] == [
        ("position", "left of", 1),
        ("two_object", "two_object", 0),
    ]
    assert [i.asks_for for i in items("spatial", "spatial.txt")] == ["on the left of"] * 2 + ["next to"] * 2
    assert [len(i.prompt.triplets) for i in items("several", "several.jsonl")] == [2, 2]
    assert len({i.seed for i in geneval}) == 4


def test_prompts_may_be_counted_by_kind_of_pair() -> None:
    counted = Counter(i.prompt_group for i in benchmark_items(load_run_config("mini-sd", {"benchmark": "long"})))
    assert counted == {"seen": 128, "unseen": 52, "novel": 24}
    only = benchmark_items(load_run_config("mini-sd", {"benchmark.prompts": {"unseen": 3}}))
    assert len(only) == 6 and {i.prompt_group for i in only} == {"unseen"}
    with pytest.raises(UserError, match="benchmark.prompts: .*valid integer .got {'seen': 3}"):
        load_run_config("mini-sd", {"benchmark": "several", "benchmark.prompts": {"seen": 3}})


def test_a_row_has_the_finds_of_its_verdict_by_the_prompts_names() -> None:
    """A weak find is no extra object and no box of the picture.

    One class has other names in GenEval and T2I-CompBench.
    """
    found = [
        Detection(name=name, box=(0, 0, 9, 9), score=score)
        for name, score in (("mouse", 0.9), ("person", 0.6), ("mouse", 0.06))
    ]
    record = GenevalRecord(tag="two_object", prompt="", include=(Clause(name="computer mouse"), Clause(name="person")))
    nothing = {"text": "", "triplets": (), "spans": ()}
    items = {
        kind: EvalItem(
            item_id=kind,
            prompt_group="x",
            prompt=SeveralPrompt(objects=objects, **nothing),
            seed=0,
            record=asked,
            label=kind,
        )
        for kind, objects, asked in (
            ("geneval", ("computer mouse", "person"), record),
            ("spatial", ("girl", "mouse"), parse_prompt("a girl next to a mouse")),
            ("several", ("Mouse", "girl"), None),
        )
    }
    protocols = {"geneval": Geneval(prompts=1), "spatial": Spatial(prompts=1), "several": Several(prompts=1)}
    named = {kind: [(d.name, d.score) for d in protocols[kind].finds(item, found)] for kind, item in items.items()}
    assert named == {
        "geneval": [("computer mouse", 0.9), ("person", 0.6)],
        "spatial": [("mouse", 0.9), ("girl", 0.6)],
        "several": [("Mouse", 0.9), ("person", 0.6)],
    }
    assert {kind: judge_score(protocols[kind], item, Verdict(), found)[2] for kind, item in items.items()} == {
        "geneval": 0.6,
        "spatial": 0.6,
        "several": 0.0,
    }
