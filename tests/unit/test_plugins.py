"""A package of someone else adds a family, a source, a method, a protocol and a judge by entry points, and they run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.plugins import install

from l2s_core.backbones.load import load_backbone
from l2s_core.config import RunConfig, load_run_config
from l2s_core.data.catalogue import load_catalogue
from l2s_core.data.scene_shards import load_scenes
from l2s_core.diffusion.sampler import Sampler
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.load import judge_fingerprint, load_judge
from l2s_core.evaluation.judging import Judging
from l2s_core.evaluation.methods.method import SampleContext
from l2s_core.evaluation.protocols.protocol import benchmark_items, protocol_of
from l2s_core.evaluation.run import Run
from l2s_core.planning.estimate import work_of
from l2s_core.registry import FAMILIES, JUDGES, METHODS, PROTOCOLS, SOURCES
from tasks.scenes import choose_scenes, prepare_shard

NAME = "l2s_of_someone_else"
CODE = '''
from dataclasses import replace
from itertools import combinations
from typing import Literal

import numpy as np

from l2s_core.backbones.unet import UNetBackbone
from l2s_core.data.catalogue import Catalogue, Entry, Skips
from l2s_core.data.scenes import Scene
from l2s_core.data.source import Source
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.methods.method import Method
from l2s_core.evaluation.protocols.protocol import AskedPrompt, Protocol
from l2s_core.evaluation.protocols.suites import first_prompts, suite_triplets
from l2s_core.evaluation.samples import sample_items
from l2s_core.evaluation.work import Work
from l2s_core.prompts.prompt import PHOTO_PREFIX, prompt_for
from l2s_core.relations import Triplet


class Twin(UNetBackbone):
    """Stable Diffusion again, by another name."""


class Plain(Source):
    """Pictures of one brightness."""

    SCOPE = "Pictures without anything in them."
    source: Literal["plain"] = "plain"
    brightness: int = 128

    def catalogue(self, fits):
        triplets = [Triplet(subject="dog", relation=relation, object="cat") for relation in self.relations]
        return Catalogue(entries=[Entry(image_id=t.relation, split="train", triplet=t) for t in triplets if fits(t)])

    def load_entries(self, entries, side):
        image = np.full((side, side, 3), self.brightness, np.uint8)
        return [Scene(image_id=e.image_id, split=e.split, image=image, triplet=e.triplet) for e in entries], Skips()


class Beside(Protocol):
    """Two objects that are next to each other, left or right."""

    protocol: Literal["beside"] = "beside"
    objects: tuple[str, ...] = ("dog", "cat", "bird", "car")

    def items(self, config):
        triplets = suite_triplets(self.suite, list(combinations(self.objects, 2)), ("left of", "right of"))
        chosen = first_prompts(triplets, self.prompts, f"the {self.suite} suite of beside")
        return self.numbered_items(
            AskedPrompt(group="beside", number=n, prompt=prompt_for(t, prefix=PHOTO_PREFIX), label=t.relation)
            for n, t in enumerate(chosen)
        )


class Negative(Method):
    """Plain images with every colour turned round."""

    NOTE = "plain images, every colour turned round"
    kind: Literal["negative"]
    white: int = 255

    def identity(self, paths):
        return ["negative", self.white]

    def work(self, config):
        return Work(guided=config.backbone.steps)

    def sample(self, context, items):
        shard = sample_items(context.sampler, items)
        return replace(shard, images=self.white - shard.images)


class CornerJudge(Judge):
    """Finds a dog in the first pixel of every image."""

    KIND = "CornerModel"
    MODEL_TYPE = "corner"
    CRITERIA = (0.5,)

    def __init__(self, folder, *, device="cpu"):
        self.names = ("dog",)

    def detect(self, images, names=None):
        return [[Detection(name="dog", box=(0, 0, 1, 1), score=0.75)] for _ in images]
'''
POINTS = {
    "l2s.backbones": {"twin": "Twin"},
    "l2s.sources": {"plain": "Plain"},
    "l2s.methods": {"negative": "Negative"},
    "l2s.protocols": {"beside": "Beside"},
    "l2s.judges": {"CornerModel": "CornerJudge"},
}
SETTINGS = {
    "backbone.family": "twin",
    "backbone.steps": 4,
    "capture.steps": [1, 3],
    "steering.until_step": 2,
    "data": {"source": "plain", "train": 1, "val": 1, "test": 1, "brightness": 7},
    "benchmark": {"protocol": "beside", "prompts": 4, "objects": ["dog", "cat", "zebra"]},
    "methods": {"turned": {"kind": "negative"}, "grey": {"kind": "negative", "white": 128}},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    install(monkeypatch, tmp_path / "site", NAME, CODE, POINTS)
    return load_run_config("mini-sd", SETTINGS)


def test_what_a_package_brings_runs_as_the_projects_own(run: RunConfig, tmp_path: Path) -> None:
    planned = Run.of(run, tmp_path / "home")
    choose_scenes.fn(planned)
    entries = load_catalogue(planned.paths.catalogue).entries
    scenes = load_scenes(prepare_shard(planned, "00000", entries))
    assert len(scenes) == 4 and np.all(scenes[0].image == 7)

    backbone = load_backbone(run.backbone, "cpu")
    assert type(backbone).__name__ == "Twin" and planned.paths.inputs.backbone == backbone.fingerprint
    items = planned.items
    assert [item.item_id for item in items] == [f"beside-test-beside-{number:03d}-0" for number in range(4)]
    images = Sampler.of(backbone, run)([i.prompt for i in items], [i.seed for i in items]).images
    judged = Judging(protocol=protocol_of(run), judge=load_judge(run.benchmark.judge)).judge_images(items, images)
    assert [(image.prompt_group, image.asks_for) for image in judged] == [("beside", item.label) for item in items]


def test_a_method_of_a_package_samples_beside_the_projects_own(run: RunConfig, tmp_path: Path) -> None:
    planned = Run.of(run, tmp_path / "home")
    assert list(planned.methods) == ["plain", "main", *run.classifiers, "turned", "grey"]
    assert len({planned.paths.samples(name) for name in ("plain", "main", "turned", "grey")}) == 4
    assert work_of(run)["sample further methods"].guided == 2 * 4 * run.backbone.steps
    context = SampleContext(
        config=run,
        sampler=Sampler.of(load_backbone(run.backbone, "cpu"), run),
        classifier=unexpected,
        judging=unexpected,
        seconds=unexpected,
    )
    plain, turned = (planned.methods[name].sample(context, planned.items) for name in ("plain", "turned"))
    assert np.array_equal(turned.images.numpy(), 255 - plain.images.numpy())


def unexpected(*_: object) -> None:
    raise AssertionError("nothing asks for it")


def test_a_protocol_of_a_package_is_a_benchmark(run: RunConfig) -> None:
    assert type(protocol_of(run)).__name__ == "Beside"
    assert run.model_dump(mode="json")["benchmark"]["objects"] == ["dog", "cat", "zebra"]
    items = benchmark_items(load_run_config("mini-sd", {**SETTINGS, "benchmark.seeds": 2}))
    assert len(items) == len({item.seed for item in items}) == 8
    assert {item.asks_for for item in items} == {"left of", "right of"}
    dev = benchmark_items(load_run_config("mini-sd", {**SETTINGS, "benchmark.suite": "dev"}))
    assert not {item.prompt.text for item in items} & {item.prompt.text for item in dev}


@pytest.mark.parametrize("settings", [{"architectures": ["CornerModel"]}, {"model_type": "corner"}])
def test_a_judge_of_a_package_is_found_by_its_model(run: RunConfig, tmp_path: Path, settings: dict) -> None:
    folder = tmp_path / "corner"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    judge = load_judge(str(folder))
    assert type(judge).__name__ == "CornerJudge"
    assert [found.score for (found,) in judge.detect(np.zeros((2, 8, 8, 3), np.uint8))] == [0.75, 0.75]
    assert judge_fingerprint(str(folder)) == judge_fingerprint(str(folder))
    (folder / "config.json").write_text(json.dumps({"architectures": ["Cornered"]}))
    with pytest.raises(UserError, match="holds a Cornered, which is no judge; allowed: Segformer.*, CornerModel"):
        load_judge(str(folder))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"benchmark.protocol": "besides"}, "unknown protocol 'besides'; did you mean 'beside'. allowed: beside, g"),
        ({"data.source": "plane"}, "unknown source of scenes 'plane'; did you mean 'plain'. allowed: .*, plain"),
        ({"backbone.family": "twins"}, "unknown backbone family 'twins'; did you mean 'twin'. allowed: .*, twin, unet"),
        ({"benchmark.objcts": ["x"]}, "unknown key 'benchmark.objcts'; did you mean 'objects'. allowed: clip, "),
        ({"data.brightness": "x"}, "data.brightness: .*valid integer"),
        ({"methods.turned.kind": "negativ"}, "methods.turned.kind: unknown method 'negativ'; did you mean 'negative'"),
        ({"methods.turned.wite": 1}, "unknown key 'methods.turned.wite'; did you mean 'white'. allowed: kind, white"),
    ],
)
def test_errors_name_what_a_package_brings(run: RunConfig, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_run_config("mini-sd", {**SETTINGS, **settings})
    assert "\n" not in str(caught.value)


def test_listing_names_imports_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, NAME, "raise RuntimeError('imported')", POINTS)
    tables = (FAMILIES, SOURCES, METHODS, PROTOCOLS, JUDGES)
    assert [table.names()[-1] for table in tables] == ["twin", "plain", "negative", "beside", "CornerModel"]
    assert NAME not in sys.modules


@pytest.mark.parametrize(
    ("code", "points", "message"),
    [
        (
            "import no_such_library",
            {"l2s.protocols": {"beside": "Beside"}},
            f"the protocol 'beside' of {NAME}:Beside cannot be loaded .No module named 'no_such_library'.; mend",
        ),
        ("", {"l2s.protocols": {"beside": "Beside"}}, "cannot be loaded .*has no attribute 'Beside'"),
        (
            "Beside = 5",
            {"l2s.protocols": {"beside": "Beside"}},
            "the protocol 'beside' is 5, which is no class of a section",
        ),
        (
            "Pairs = 5",
            {"l2s.protocols": {"pairs": "Pairs"}},
            f"{NAME}:Pairs calls a protocol 'pairs', and the project",
        ),
    ],
)
def test_a_package_that_cannot_be_used_is_one_line(
    code: str, points: dict, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, NAME, code, points)
    (name,) = points["l2s.protocols"]
    with pytest.raises(UserError, match=message) as caught:
        load_run_config("mini-sd", {"benchmark": {"protocol": name, "prompts": 3}})
    assert "\n" not in str(caught.value)


def test_a_family_that_is_no_family_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, NAME, "Twin = 5", {"l2s.backbones": {"twin": "Twin"}})
    with pytest.raises(
        UserError, match="the backbone family 'twin' is no subclass of DiffusersModel; mend or uninstall"
    ):
        load_backbone(load_run_config("mini-sd", {"backbone.family": "twin"}).backbone, "cpu")


def test_names_and_settings_are_read_without_torch() -> None:
    """Commands that only read settings start in a moment."""
    code = (
        "import sys; from l2s_core.config import load_run_config; from l2s_core.registry import JUDGES, PROTOCOLS; "
        "PROTOCOLS.names(), JUDGES.names(); load_run_config('sd21'); "
        "[load_run_config('mini-sd', {'benchmark': name}) for name in ('test', 'no-relation', 'several')]; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
