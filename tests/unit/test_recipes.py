"""Recipes of the core's READMEs, followed as they stand there."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.models import PIXELS
from helpers.plugins import install
from helpers.runs import run_of

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.config import SteeringConfig, load_run_config
from l2s_core.dataset.collect import map_source
from l2s_core.diffusion.sampler import Batch, Sampler
from l2s_core.diffusion.sampling import initial_noise
from l2s_core.evaluation.detectors.load import judge_fingerprint, load_judge, require_names
from l2s_core.evaluation.methods.method import SampleContext
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.prompts.prompt import Triplet, prompt_for
from l2s_core.steering.steering import Steering
from l2s_core.steering.targets import Targets

CORE = Path(__file__).parents[2] / "l2s_core"
SETTINGS = {"backbone.steps": 4, "capture.steps": [1, 2], "steering.until_step": 3, "steering.updates": 2}
PROMPTS = [
    prompt_for(Triplet(subject="dog", relation=relation, object="cat"), prefix="a photo of ")
    for relation in ("left of", "above")
]


def blocks(readme: Path, heading: str) -> list[str]:
    """Return the Python blocks of a section."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", readme.read_text(encoding="utf-8"), re.M | re.S)
    return [textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```", section, re.M | re.S)]


def test_an_objective_is_added_by_its_recipe(backbone) -> None:
    written, used = blocks(CORE / "README.md", "Add an objective")
    names: dict[str, Any] = {
        "__name__": __name__,
        "backbone": backbone,
        "run": load_run_config("mini-sd", SETTINGS),
        "prompts": PROMPTS,
        "seeds": [3, 4],
        "map_source": map_source,
        "partial": partial,
        "Sampler": Sampler,
        "Steering": Steering,
    }
    exec(written, names)
    exec(used, names)
    steered = names["steered"]
    assert steered.images.shape == (2, 64, 64, 3) and steered.observers[0].cost.gradients.sum() > 0

    objective = replace(names["objective"], enough=0.0)
    maps = torch.zeros(2, 2, 3, 16, 16)
    maps[:, 0, :, :, 4] = 1 / 16
    maps[0, 1, :, :, 4] = 1 / 16
    maps[1, 1, :, :, 9] = 1 / 16
    label_B = torch.tensor([0, 0])
    assert torch.allclose(objective.loss(maps, label_B, label_B), torch.tensor([1.0, 0.0]))
    assert objective.satisfied(torch.tensor([1.0, 0.0, float("nan")])).tolist() == [False, True, False]

    batch = Batch.of(backbone, PROMPTS, steps=4)
    gentle = SteeringConfig(until_step=3, updates=3, step_size=0.02, normalize="rms")
    steer = Steering(batch, objective=objective, config=gentle)
    z = initial_noise([3, 4], backbone.latent_shape)
    everyone = torch.arange(2)
    moved = steer(z, 1)
    with torch.no_grad():
        before, after = (steer._loss(at, everyone, 1, Targets.of(PROMPTS)) for at in (z, moved))
    assert (after < before).all()


METHOD_IMPORTS = """
from __future__ import annotations
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal
import torch
from pydantic import Field
from l2s_core.config import RunConfig
from l2s_core.evaluation.methods.method import Method, SampleContext
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.samples import SampleShard, sample_items
from l2s_core.evaluation.work import Work
from l2s_core.storage.run_paths import RunPaths
"""


def test_a_method_is_added_by_its_recipe(backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (written,) = blocks(CORE / "evaluation" / "README.md", "Add a method of sampling")
    points = {"l2s.methods": {"brightest-of-two": "BrightestOfTwo"}}
    install(monkeypatch, tmp_path, "bright", METHOD_IMPORTS + written, points)
    bright = {"kind": "brightest-of-two", "shift": 5}
    small = {"backbone__steps": 4, "capture__steps": [1, 2], "steering__until_step": 3}
    run = run_of(tmp_path, benchmark__prompts=1, methods={"bright": bright}, **small)
    assert run.paths.samples("bright") not in map(run.paths.samples, run.classifiers)
    assert run.methods["bright"].work(run.config).guided == 2 * 4

    context = SampleContext(
        config=run.config,
        sampler=Sampler.of(backbone, run.config),
        classifier=TrainedClassifier.load,
        judging=lambda: pytest.fail("it asks no judge"),
        seconds=run.seconds,
    )
    items = run.items[:3]
    made = run.methods["bright"].sample(context, items).images.float().mean((1, 2, 3))
    for shift in (0, 5):
        plain = run.methods["plain"].sample(context, [replace(item, seed=item.seed + shift) for item in items])
        assert (made >= plain.images.float().mean((1, 2, 3))).all()


PROTOCOL_IMPORTS = """
from __future__ import annotations
from itertools import combinations
from typing import Literal
from l2s_core.config import RunConfig
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import AskedPrompt, Protocol
from l2s_core.evaluation.protocols.suites import first_prompts, suite_triplets
from l2s_core.prompts.prompt import PHOTO_PREFIX, prompt_for
"""


def test_a_protocol_is_added_by_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (written,) = blocks(CORE / "evaluation" / "README.md", "Add a benchmark protocol")
    install(
        monkeypatch, tmp_path, "others_protocol", PROTOCOL_IMPORTS + written, {"l2s.protocols": {"beside": "Beside"}}
    )
    suites = {}
    for suite in ("dev", "test"):
        benchmark = {"protocol": "beside", "prompts": 4, "seeds": 2, "suite": suite}
        suites[suite] = benchmark_items(load_run_config("mini-sd", {"benchmark": benchmark}))
    assert all(len(items) == 8 for items in suites.values())
    assert not {i.prompt.text for i in suites["dev"]} & {i.prompt.text for i in suites["test"]}
    assert len({i.seed for items in suites.values() for i in items}) == 16


JUDGE_IMPORTS = """
from __future__ import annotations
from collections.abc import Sequence
from pathlib import Path
import numpy as np
import torch
from l2s_core.backbones.complete import load_complete
from l2s_core.evaluation.detectors.boxes import best_named, pixel_boxes
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.detectors.pixels import model_pixels, read_pixel_settings
"""


def test_a_judge_is_added_by_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (written,) = blocks(CORE / "evaluation" / "README.md", "Add a judge")
    points = {"l2s.judges": {"DetrForObjectDetection": "DetrJudge"}}
    install(monkeypatch, tmp_path / "site", "others_judge", JUDGE_IMPORTS + written, points)
    folder = str(tiny_detr(tmp_path / "detr"))
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 56, 3), np.uint8)
    judge = load_judge(folder)
    found = judge.detect(images)
    assert type(judge).__name__ == "DetrJudge" and sum(map(len, found)) > 0
    assert all(
        find.name in judge.names and 0 <= find.box[0] < find.box[2] <= 56 and 0.05 < find.score < 1
        for finds in found
        for find in finds
    )
    assert judge.detect(images[1:2])[0][0].box == found[1][0].box
    require_names(folder, ["dog", "computer mouse"])
    before = judge_fingerprint(folder)
    monkeypatch.setattr(type(judge), "CRITERIA", (0.5,))
    assert judge_fingerprint(folder) != before


def tiny_detr(folder: Path) -> Path:
    """Write a DETR with random weights and three classes; return its folder."""
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    torch.manual_seed(0)
    names = dict(enumerate(("dog", "cat", "mouse")))
    sizes = {f"{part}_{size}": 2 for part in ("encoder", "decoder") for size in ("attention_heads", "layers")}
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, out_features=["stage4"])
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=resnet,
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=5,
        id2label=names,
        label2id={name: index for index, name in names.items()},
        **sizes,
    )
    DetrForObjectDetection(config).save_pretrained(folder)
    size = {"height": 64, "width": 64}
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS | {"size": size}))
    return folder
