"""Attributes as a fifth relation, "is".

Prompts, a classifier that tells it from geometry, steering, and a run on own images.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fakes import SOURCE, blob_maps, write_fake_shards
from helpers.models import tiny_clip, tiny_owl
from helpers.small_run import SETTINGS, reproduce
from PIL import Image
from torch.nn.functional import one_hot

from flows.planning import plan
from l2s_core.backbones.folder import SHIPPED
from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.experiment import run_experiment
from l2s_core.classifier.model import build_classifier
from l2s_core.classifier.symmetry import GroupAverage, augment, symmetries_of
from l2s_core.config import CaptureConfig, ClassifierConfig, SteeringConfig, load_run_config
from l2s_core.data.scenes import PromptKind, scene_prompt
from l2s_core.dataset.collect import map_source
from l2s_core.dataset.reader import verify_shard
from l2s_core.diffusion.sampler import Sampler
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.protocols.geneval_metadata import attribute_prompt, record_row
from l2s_core.evaluation.protocols.geneval_rules import Clause, GenevalRecord
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.evaluation.protocols.relation_rule import judge_relations
from l2s_core.interface.model import SteeredModel
from l2s_core.miniworld.world.scenes import render, sample_layout
from l2s_core.miniworld.world.streams import scene_rng
from l2s_core.prompts.prompt import depicted, parse_several, prompt_for
from l2s_core.relations import ATTRIBUTE, PLANAR, Triplet
from l2s_core.report.figures import confusion_figure
from l2s_core.steering.objectives import CentroidObjective, PresenceObjective
from l2s_core.steering.steering import Steering, steer_by
from l2s_core.steering.targets import Targets

WHITE_DOG = Triplet(subject="white", relation=ATTRIBUTE, object="dog")
WITH_ATTRIBUTES = (*PLANAR, ATTRIBUTE)
FIVE = replace(SOURCE, relations=WITH_ATTRIBUTES)


def phrases(prompt) -> list[str]:
    return [prompt.text[slice(*span)] for span in prompt.spans]


# Prompts


def test_an_attribute_is_written_before_its_object() -> None:
    prompt = prompt_for(WHITE_DOG)
    assert (prompt.text, phrases(prompt)) == ("a white dog", ["white", "dog"])
    assert (
        prompt_for(Triplet(subject="orange", relation=ATTRIBUTE, object="hot dog"), prefix="a photo of ").text
        == "a photo of an orange hot dog"
    )


def test_wrong_prompts_are_spatial() -> None:
    wrong = [scene_prompt(f"train-is-{i}", WHITE_DOG, PromptKind.NEG) for i in range(200)]
    assert {p.triplet.relation for p in wrong} == set(PLANAR)
    assert {phrases(p)[0] for p in wrong} == {"white"} and "a white to the left of a dog" in {p.text for p in wrong}
    assert scene_prompt("train-is-0", WHITE_DOG, PromptKind.POS).text == "a white dog"
    for relation in PLANAR:
        spatial = Triplet(subject="dog", relation=relation, object="cat")
        assert {scene_prompt(f"x{i}", spatial, PromptKind.NEG).triplet.relation for i in range(200)} == set(PLANAR) - {
            relation
        }


def test_coloured_records_state_attributes() -> None:
    record = GenevalRecord(
        tag="color_attr",
        prompt="a photo of a red computer mouse and a white mug and a dog",
        include=(Clause(name="computer mouse", color="red"), Clause(name="mug", color="white"), Clause(name="dog")),
    )
    prompt = attribute_prompt(record)
    assert phrases(prompt) == list(prompt.objects) == ["red", "computer mouse", "white", "mug", "dog"]
    assert [(t.subject, t.relation, t.object) for t in prompt.triplets] == [
        ("red", "is", "computer mouse"),
        ("white", "is", "mug"),
    ]
    assert depicted(prompt) == ("computer mouse", "mug", "dog")
    assert EvalItem(item_id="i", prompt_group="x", prompt=prompt, seed=0, record=record).objects == depicted(prompt)
    twice = GenevalRecord(
        tag="colors", prompt="a photo of an orange orange", include=(Clause(name="orange", color="orange"),)
    )
    assert attribute_prompt(twice) is None


def test_colours_are_stated_where_the_data_has_attributes() -> None:
    settings = {
        "benchmark": "geneval",
        "benchmark.tags": ["colors", "color_attr", "two_object"],
        "benchmark.prompts": 4,
        "benchmark.clip": "x",
    }
    plain, described = (
        benchmark_items(load_run_config("sd21", {**settings, **more})) for more in ({"data": "gqa-orm"}, {})
    )
    assert [(i.item_id, i.prompt.text, i.seed, i.objects) for i in plain] == [
        (i.item_id, i.prompt.text, i.seed, i.objects) for i in described
    ]
    stated = {i.prompt_group: len(i.prompt.triplets) for i in described}
    assert stated == {"colors": 1, "color_attr": 2, "two_object": 0} and not any(i.prompt.triplets for i in plain)


def test_attributes_are_steered_and_not_judged_by_boxes() -> None:
    prompt = parse_several("a white dog to the left of a cat", ("white",))
    found = [
        Detection(name="dog", box=(0, 0, 10, 10), score=0.9),
        Detection(name="cat", box=(30, 0, 40, 10), score=0.9),
    ]
    verdict = judge_relations(prompt, found)
    assert verdict.correct and [judged.triplet.relation for judged in verdict.relations] == ["left of"]


# Classifier


@pytest.mark.parametrize("more", [{}, {"augment": "symmetry", "group_average": True}], ids=["plain", "symmetric"])
def test_five_labels_are_told_apart(tmp_path: Path, more: dict) -> None:
    config = ClassifierConfig(kind="conv", width=8, epochs=8, batch=16, dropout=0.1, lr=3e-3, **more)
    shards = write_fake_shards(tmp_path / "maps", shards=1, images=60, source=FIVE)
    assert verify_shard(shards[0])[0].relations == WITH_ATTRIBUTES
    classifier, result = run_experiment(config, shards)
    assert result.test["accuracy_is"] > 0.9 and result.test["accuracy"] > 0.9
    assert [len(row) for row in result.confusion] == [5] * 5 and result.confusion[4][4] > 0
    ticks = confusion_figure(result.confusion, WITH_ATTRIBUTES).axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == list(WITH_ATTRIBUTES)
    classifier.save(tmp_path / "c")
    assert TrainedClassifier.load(tmp_path / "c").source.relations == WITH_ATTRIBUTES
    with pytest.raises(UserError, match="other maps: relations"):
        classifier.require(SOURCE)


def test_symmetries_leave_attributes_in_place() -> None:
    maps = torch.from_numpy(np.stack([blob_maps(ATTRIBUTE, np.random.default_rng(i)) for i in range(32)])).float()
    _, truth = augment(maps, one_hot(torch.full((32,), 4), 5).bool(), torch.Generator().manual_seed(0), WITH_ATTRIBUTES)
    assert truth.sum(1).eq(1).all() and truth[:, 4].all()
    mixed = torch.arange(5).repeat(7)[:32]
    four, five = (
        augment(maps, one_hot(some, len(names)).bool(), torch.Generator().manual_seed(1), names)[1].long().argmax(1)
        for some, names in ((mixed.clamp_max(3), PLANAR), (mixed, WITH_ATTRIBUTES))
    )
    assert torch.equal(four[mixed < 4], five[mixed < 4]) and (five[mixed == 4] == 4).all()
    model = GroupAverage(build_classifier(ClassifierConfig(kind="conv", width=8), FIVE), WITH_ATTRIBUTES).eval()
    step = torch.arange(len(maps)) % 2
    with torch.no_grad():
        logits = model(maps, step)
        for symmetry in symmetries_of(PLANAR):
            moved = model(symmetry.move(maps), step)
            assert (moved[:, symmetry.labels_R] - logits[:, :4]).abs().max() < 1e-5 and (
                moved[:, 4] - logits[:, 4]
            ).abs().max() < 1e-5


# Steering

STEPS = 6
FAST = SteeringConfig(until_step=3, updates=2, step_size=0.1, normalize="rms", confidence=0.999)


def classifier_of(backbone, relations: tuple[str, ...]) -> TrainedClassifier:
    config = ClassifierConfig(kind="conv", width=8)
    source = map_source(backbone, CaptureConfig(steps=(1, 3)), STEPS, relations)
    return TrainedClassifier(
        model=build_classifier(config, source).eval().requires_grad_(False), config=config, source=source
    )


def test_an_attribute_is_steered_like_a_relation(backbone) -> None:
    prompts = [
        parse_several("a photo of a white dog and a cat", ("white",)),
        parse_several("a white dog left of a cat", ("white",)),
    ]
    assert [Targets.of(prompts).label_P.tolist(), Targets.of(prompts).weight_P.tolist()] == [[4, 4, 0], [1, 1, 1]]
    sampler = Sampler(backbone=backbone, steps=STEPS, guidance=3.0, batch=8)
    plain = sampler(prompts, [1, 2])
    steered = sampler(prompts, [1, 2], steer_by(classifier_of(backbone, WITH_ATTRIBUTES), FAST))
    assert (plain.images != steered.images).flatten(1).any(1).all()
    assert (steered.observers[0].cost.gradients > 0).all()


def test_an_attribute_without_a_classifier_of_it_is_an_error(backbone) -> None:
    prompts = [parse_several("a white dog", ("white",))]
    sampler = Sampler(backbone=backbone, steps=STEPS, guidance=3.0, batch=8)
    with pytest.raises(
        UserError,
        match="asks for the relation 'is', and this objective knows left of, right of, above, below; "
        "train a classifier",
    ):
        sampler(prompts, [1], steer_by(classifier_of(backbone, PLANAR), FAST))
    source = map_source(backbone, CaptureConfig(steps=(1, 3)), STEPS)
    with pytest.raises(UserError, match="asks for the relation 'is'"):
        objective = CentroidObjective(source=source, margin=0.1)
        sampler(prompts, [1], partial(Steering, objective=objective, config=FAST))
    PresenceObjective(source=source).require_known(Targets.of(prompts))  # asks no relation of the maps


def test_one_prompt_plain_and_steered(backbone) -> None:
    """Its attribute has no box, and is no object to find."""
    run = load_run_config(
        "mini-sd",
        {
            "backbone.steps": STEPS,
            "capture.steps": [1, 3],
            "steering.until_step": 3,
            "steering.updates": 1,
            "data": "gqa-orm",
            "data.attributes": ["white"],
        },
    )
    model = SteeredModel(backbone=backbone, classifier=classifier_of(backbone, WITH_ATTRIBUTES), run=run)
    result = model("a photo of a white dog left of a cat", seeds=[0, 1])
    assert [image.objects for image in result.judge()] == [("dog", "cat")] * 2
    assert result.gradients == [3, 3] and result.comparison().width > 64


# A run

RECORDS = [
    *(
        GenevalRecord(tag="colors", prompt=f"a photo of a {c} {n}", include=(Clause(name=n, color=c),))
        for c, n in (("red", "dog"), ("blue", "cat"))
    ),
    GenevalRecord(
        tag="color_attr",
        prompt="a photo of a red car and a blue dog",
        include=(Clause(name="car", color="red"), Clause(name="dog", color="blue")),
    ),
]
EACH = 4  # images a relation: train, val and test of the small run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, dict[str, object]]:
    """A home with the finished run, and its settings."""
    folder = tmp_path_factory.mktemp("described")
    home = tmp_path_factory.mktemp("home")
    for name, write in (("judge", tiny_owl), ("clip", tiny_clip)):
        (folder / name).mkdir()
        write(folder / name)
    lines = []
    for number, relation in enumerate(WITH_ATTRIBUTES * EACH):
        layout = sample_layout(
            scene_rng(7, number, 0), relation=relation if relation in PLANAR else "above", counts=(0.0, 1.0)
        )
        Image.fromarray(render(layout)).save(folder / f"{number}.png")
        subject, object_ = (p.name for p in layout.placements)
        lines.append(
            {
                "image": f"{number}.png",
                "subject": "white" if relation == ATTRIBUTE else subject,
                "relation": relation,
                "object": object_,
            }
        )
    (folder / "scenes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(record_row(record)) for record in RECORDS))
    settings = {
        "data": f"{{source: jsonl, path: {folder}, attributes: [white], train: 2, val: 1, test: 1}}",
        "classifiers": "{}",
        "benchmark.protocol": "geneval",
        "benchmark.tags": "[colors, color_attr]",
        "benchmark.file": folder / "metadata.jsonl",
        "benchmark.clip": folder / "clip",
        "benchmark.judge": folder / "judge",
        "benchmark.prompts": 4,
        "backbone.steps": 4,
    }
    done = reproduce(home, *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")))
    assert done.returncode == 0, done.stderr
    return home, settings


@pytest.mark.server
@pytest.mark.slow
def test_a_run_with_attributes(run) -> None:
    home, _ = run
    summary = json.loads((home / "reports" / "tiny" / "summary.json").read_text())
    result = summary["classifiers"]["main"]["result"]
    assert len(result["confusion"]) == 5 and "accuracy_is" in result["test"]
    assert summary["data"]["scenes"] == 5 * EACH and summary["clip"] is not None
    methods = [
        json.loads(path.read_text())["images"] for path in (home / "stages" / "verdicts").glob("*/verdicts.json")
    ]
    assert len(methods) == 2 and sum(row["gradients"] > 0 for rows in methods for row in rows) == 3
    reasons = {row["reason"] for rows in methods for row in rows}
    assert all({row["asks_for"] for row in rows} == {"colors", "color_attr"} for rows in methods)
    assert any(" looks " in reason for reason in reasons), reasons
    assert {name for rows in methods for row in rows for name in row["objects"]} == {"dog", "cat", "car"}


@pytest.mark.server
@pytest.mark.slow
def test_a_classifier_of_four_relations_is_refused_before_anything_runs(run, tmp_path: Path) -> None:
    from flows.options import overrides_of

    _, settings = run
    overrides = overrides_of(tuple(f"{key}={value}" for key, value in {**SETTINGS, **settings}.items()))
    with pytest.raises(
        UserError, match="asks for the relation 'is'.* leave data.attributes out: colours are then not steered"
    ):
        plan("mini-sd", overrides, tmp_path, SHIPPED / "classifiers" / "mini-sd")
