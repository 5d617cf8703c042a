"""The judge on held-out scenes, the scorer's golden cases, Wilson's interval."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.damage import drop_weights
from helpers.models import tiny_mask2former

from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.load import judge_folder, load_judge
from l2s_core.evaluation.protocols.relation_rule import judge_relations
from l2s_core.evaluation.statistics.aggregate import wilson_interval
from l2s_core.miniworld.world.scenes import render, sample_layout
from l2s_core.miniworld.world.streams import scene_rng
from l2s_core.prompts.prompt import prompt_for
from l2s_core.relations import Triplet

TRIPLET = Triplet(subject="dog", relation="left of", object="cat")


def found(name: str, x: int, score: float = 0.9) -> Detection:
    return Detection(name=name, box=(x, 20, x + 10, 30), score=score)


@pytest.mark.parametrize(
    ("detections", "correct", "reason"),
    [
        ([found("dog", 5), found("cat", 40)], True, "correct"),
        ([found("dog", 40), found("cat", 5)], False, "is right of, not left of"),
        ([found("dog", 5)], False, "not found: cat"),
        ([found("dog", 5), found("cat", 40, 0.3)], False, "not found: cat"),
        ([found("dog", 5, 0.5), found("dog", 50, 0.9), found("cat", 30)], False, "is right of, not left of"),
        ([], False, "not found: dog, cat"),
    ],
)
def test_position_golden_cases(detections, correct, reason) -> None:
    verdict = judge_relations(prompt_for(TRIPLET), detections, 0.3)
    assert (verdict.correct, verdict.reason) == (correct, reason)


def test_the_judge_finds_what_is_there_and_nothing_else() -> None:
    """200 held-out scenes: at least 0.98 of the objects found, at most 0.02 false finds an object."""
    layouts = [sample_layout(scene_rng(123, i)) for i in range(200)]
    detections = load_judge("mini-seg").detect(np.stack([render(layout) for layout in layouts]))
    hits = false = total = 0
    for layout, objects in zip(layouts, detections, strict=True):
        there = {p.name for p in layout.placements}
        names = [d.name for d in objects if d.score > 0.3]
        total += len(there)
        hits += len(there & set(names))
        false += len(names) - len(there & set(names))
    assert hits / total >= 0.98 and false / total <= 0.02


def test_wilson() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_unknown_judge() -> None:
    with pytest.raises(UserError, match="no judge"):
        load_judge("mini-sec")


@pytest.mark.parametrize("kind", ["Segformer", "Mask2Former"])
def test_a_judge_of_a_closed_set_without_one_of_its_weights(kind: str, tmp_path: Path) -> None:
    """Filled in at random it would judge all the same."""
    folder = tmp_path / kind
    if kind == "Mask2Former":
        tiny_mask2former(folder)
    else:
        shutil.copytree(judge_folder("mini-seg"), folder)
    load_judge(str(folder))
    lost = drop_weights(folder / "model.safetensors", ending="bias")
    with pytest.raises(UserError, match=f"lacks 1 weights of a {kind}For.*{lost}; fetch it again"):
        load_judge(str(folder))


def test_a_detector_of_photographs_gives_boxes_of_its_masks(tmp_path) -> None:
    """Mask2Former's class with tiny random weights for the plumbing, and masks made here for the boxes."""
    tiny_mask2former(tmp_path)
    judge = load_judge(str(tmp_path))
    assert judge.names == ("dog", "motorcycle")
    assert len(judge.detect(np.zeros((2, 32, 32, 3), np.uint8))) == 2
    masks = torch.full((2, 8, 8), -9.0)
    masks[0, 2:6, 1:4] = 9.0
    classes = torch.tensor([[0.1, 0.8], [0.9, 0.05]])
    likely, other = judge._instances(
        classes, masks, (8, 8)
    )  # one query, two classes: both are listed, as GenEval's detector does
    assert likely.name == "motorcycle" and likely.box == other.box == (1, 2, 4, 6) and abs(likely.score - 0.8) < 1e-3
    assert other.name == "dog" and abs(other.score - 0.1) < 1e-3
    assert not judge._instances(torch.tensor([[0.04, 0.03], [0.9, 0.05]]), masks, (8, 8))
