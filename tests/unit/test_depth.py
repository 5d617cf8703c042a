"""Depth: a tiny random model for the plumbing, and a benchmark that asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.damage import drop_weights
from helpers.models import tiny_depth

from l2s_core.config import load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.depth import DepthReader, depth_fingerprint, depth_folder
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.judging import Judging
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import benchmark_items, protocol_of
from l2s_core.evaluation.protocols.relation_rule import judge_relations
from l2s_core.prompts.prompt import parse_several

IMAGES = np.random.default_rng(5).integers(0, 256, (9, 40, 56, 3), np.uint8)
FINDS = (
    Detection(name="person", box=(0, 0, 40, 40), score=0.8),
    Detection(name="bench", box=(0, 0, 56, 40), score=0.6),
)


UPPER_AND_LOWER = {"a": (40, 0, 56, 10), "b": (0, 30, 9, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_depth(tmp_path_factory.mktemp("depth"))


def test_nearness_is_a_share_of_each_images_range(folder: Path) -> None:
    reader = DepthReader(depth_folder(str(folder)))
    near = reader.nearness(IMAGES)  # more than a batch
    assert near.shape == (9, 40, 56) and near.min() >= 0 and near.max() <= 1 and near.std() > 0.05
    assert torch.allclose(near[8:], reader.nearness(IMAGES[8:]), atol=1e-5)
    assert reader.nearness(IMAGES[:0]).shape == (0, 40, 56)


def test_a_metric_model_counts_from_the_other_end(monkeypatch, folder: Path, tmp_path: Path) -> None:
    """Rows of nearness by hand: the mean of a box is of its own rows and columns."""
    metric = DepthReader(tiny_depth(tmp_path, depth_estimation_type="metric", max_depth=10))
    relative = DepthReader(folder)
    said = torch.zeros(1, 28, 28)
    said[:, 14:] = 4.0  # the lower half
    for reader, upper in ((relative, 0.0), (metric, 1.0)):
        monkeypatch.setattr(reader, "model", lambda pixel_values: SimpleNamespace(predicted_depth=said))
        boxes = [Detection(name=name, box=box, score=0.5) for name, box in UPPER_AND_LOWER.items()]
        ((a, b),) = reader.place(IMAGES[:1], [boxes])
        assert (a.nearness, b.nearness) == (upper, 1 - upper) and (a.name, a.box) == ("a", UPPER_AND_LOWER["a"])
    monkeypatch.setattr(relative, "model", lambda pixel_values: SimpleNamespace(predicted_depth=said * 0 + 3))
    assert relative.nearness(IMAGES[:1]).eq(0).all()


def test_folders_that_are_no_depth_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="depth model"):
        depth_folder(str(tmp_path / "none"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"architectures": ["CLIPModel"]}))
    with pytest.raises(UserError, match="holds a CLIPModel; allowed as depth model: DepthAnything"):
        depth_folder(str(tmp_path / "other"))
    broken = tiny_depth(tmp_path / "broken")
    assert depth_fingerprint(str(broken)) == depth_fingerprint(str(folder))
    drop_weights(broken / "model.safetensors")
    with pytest.raises(UserError, match="lacks 1 weights of a DepthAnythingForDepthEstimation"):
        DepthReader(broken)


def test_a_benchmark_of_depth(monkeypatch, folder: Path, tmp_path: Path) -> None:
    wanted = {"data": "gqa-depth", "benchmark.relations": ["in front of", "behind"]}
    flat = {"benchmark": {"protocol": "spatial", "prompts": 6}}
    with pytest.raises(UserError, match="in front of, which the rule of spatial cannot tell; .*depth: FOLDER"):
        load_run_config("sd21", wanted | flat)
    assert "depth" not in load_run_config("sd21", flat).benchmark.model_dump()  # addresses stay
    run = load_run_config("sd21", wanted | flat | {"benchmark.depth": str(folder)})
    assert run.benchmark.depth_model == str(folder)
    assert load_run_config("sd21", flat | {"benchmark.depth": "x"}).benchmark.depth_model is None
    items = benchmark_items(run)
    assert {item.prompt_group for item in items} == {"spatial-3d"} and len(items) == 6
    file = tmp_path / "3d.txt"
    file.write_text("a girl hidden by a bench\na girl near a bench\n")
    official = {"benchmark.file": str(file), "benchmark.depth": str(folder)}
    (hidden,) = benchmark_items(load_run_config("sd21", wanted | flat | official))
    file.write_text("a girl near a bench\n")
    with pytest.raises(UserError, match="3d.txt has no prompt of benchmark.relations .in front of, behind"):
        benchmark_items(load_run_config("sd21", wanted | flat | official))
    reader = DepthReader(folder)
    said = torch.zeros(1, 28, 28)
    said[:, :, 20:] = 1.0  # the right edge is near: of the bench alone
    monkeypatch.setattr(reader, "model", lambda pixel_values: SimpleNamespace(predicted_depth=said))
    judge = SimpleNamespace(detect=lambda images, names: [list(FINDS)])
    with pytest.raises(UserError, match="asks for 'hidden by', and nothing here tells depth; set benchmark.depth"):
        Judging(protocol=protocol_of(run), judge=judge).verdicts([hidden], torch.from_numpy(IMAGES[:1]))
    judging = Judging(protocol=protocol_of(run), judge=judge, depth=reader)
    ((verdict, found),) = judging.verdicts([hidden], torch.from_numpy(IMAGES[:1]))
    assert verdict.correct and verdict.score == pytest.approx(0.85) and found == list(FINDS)


def test_boxes_do_not_judge_depth() -> None:
    prompt = parse_several("a person in front of a bench")
    item = EvalItem(item_id="0", prompt_group="", prompt=prompt, seed=0)
    verdict = judge_relations(item.prompt, FINDS)
    assert verdict.correct and verdict.relations == ()
