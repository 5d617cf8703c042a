"""Protocols and judges of another package: found by its entry points, and used as the project's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from l2s_core.config import load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.load import judge_fingerprint, load_judge
from l2s_core.evaluation.protocols.protocol import benchmark_items, protocol_of
from l2s_core.registry import JUDGES, PROTOCOLS

PROTOCOL = '''
from itertools import combinations
from typing import Literal

from l2s_core.evaluation.protocols.protocol import AskedPrompt, Protocol
from l2s_core.evaluation.protocols.suites import first_prompts, suite_triplets
from l2s_core.prompts.prompt import PHOTO_PREFIX, prompt_for


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
'''
JUDGE = """
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge


class CornerJudge(Judge):
    KIND = "CornerModel"
    MODEL_TYPE = "corner"
    CRITERIA = (0.5,)

    def __init__(self, folder, *, device="cpu"):
        self.names = ("dog",)

    def detect(self, images, names=None):
        return [[Detection(name="dog", box=(0, 0, 1, 1), score=0.75)] for _ in images]
"""
POINTS = "[l2s.protocols]\nbeside = others:Beside\n\n[l2s.judges]\nCornerModel = others:CornerJudge\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that is installed as pip leaves it: a module, and metadata with its entry points."""
    site = tmp_path / "site"
    metadata = site / "others-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "others.py").write_text(PROTOCOL + JUDGE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "others", raising=False)
    return site


def test_a_protocol_of_another_package_is_a_benchmark(package: Path) -> None:
    settings = {"benchmark": {"protocol": "beside", "prompts": 4, "seeds": 2, "objects": ["dog", "cat", "zebra"]}}
    run = load_run_config("mini-sd", settings)
    assert type(protocol_of(run)).__name__ == "Beside" and PROTOCOLS.names()[-1] == "beside"
    assert run.model_dump(mode="json")["benchmark"]["objects"] == ["dog", "cat", "zebra"]
    items = benchmark_items(run)
    assert len(items) == len({item.seed for item in items}) == 8
    assert {item.asks_for for item in items} == {"left of", "right of"} and items[
        0
    ].item_id == "beside-test-beside-000-0"
    dev = benchmark_items(load_run_config("mini-sd", {**settings, "benchmark.suite": "dev"}))
    assert not {item.prompt.text for item in items} & {item.prompt.text for item in dev}
    with pytest.raises(UserError, match="unknown key 'benchmark.objcts'; did you mean 'objects'"):
        load_run_config("mini-sd", {"benchmark": {"protocol": "beside", "prompts": 4, "objcts": ["dog"]}})


def test_an_unknown_protocol_is_answered_with_those_of_other_packages_too(package: Path) -> None:
    with pytest.raises(
        UserError, match="benchmark.protocol: unknown protocol 'besides'; did you mean 'beside'. allowed: b"
    ):
        load_run_config("mini-sd", {"benchmark.protocol": "besides"})
    with pytest.raises(UserError, match="allowed: beside, geneval, pairs, several, spatial"):
        load_run_config("mini-sd", {"benchmark.protocol": "x"})


@pytest.mark.parametrize("settings", [{"architectures": ["CornerModel"]}, {"model_type": "corner"}])
def test_a_judge_of_another_package_is_found_by_its_model(package: Path, tmp_path: Path, settings: dict) -> None:
    folder = tmp_path / "corner"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    judge = load_judge(str(folder))
    assert type(judge).__name__ == "CornerJudge" and JUDGES.names()[-1] == "CornerModel"
    assert [found.score for (found,) in judge.detect(np.zeros((2, 8, 8, 3), np.uint8))] == [0.75, 0.75]
    assert judge_fingerprint(str(folder)) == judge_fingerprint(str(folder))
    (folder / "config.json").write_text(json.dumps({"architectures": ["Cornered"]}))
    with pytest.raises(UserError, match="holds a Cornered, which is no judge; allowed: Segformer.*, CornerModel"):
        load_judge(str(folder))


def test_a_package_that_cannot_be_loaded_is_named(package: Path) -> None:
    (package / "others.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(UserError, match="the protocol 'beside' of others:Beside cannot be loaded .No module") as caught:
        load_run_config("mini-sd", {"benchmark": {"protocol": "beside", "prompts": 4}})
    assert "\n" not in str(caught.value)


def test_names_and_settings_are_read_without_torch() -> None:
    code = (
        "import sys; from l2s_core.config import load_run_config; from l2s_core.registry import JUDGES, PROTOCOLS; "
        "PROTOCOLS.names(), JUDGES.names(); "
        "[load_run_config('mini-sd', {'benchmark': name}) for name in ('test', 'no-relation', 'several')]; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
