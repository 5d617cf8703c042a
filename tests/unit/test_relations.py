"""The definition of relations, what follows from it, and GenEval's position rule: golden cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.fakes import SOURCE

from l2s_core.classifier.checkpoint import TrainedClassifier
from l2s_core.classifier.labels import Labels
from l2s_core.classifier.model import build_classifier
from l2s_core.classifier.symmetry import symmetries_of
from l2s_core.config import ClassifierConfig, load_run_config
from l2s_core.errors import UserError
from l2s_core.prompts.prompt import parse_prompt
from l2s_core.relations import LABELS, OPPOSITE, PLANAR, RELATIONS, SPATIAL, relation_named, relations_between
from l2s_core.steering.objectives import CentroidObjective, ClassifierObjective
from l2s_core.steering.targets import Targets

UNIT = (0, 0, 10, 10)


def moved(dx: float, dy: float) -> tuple[float, float, float, float]:
    return dx, dy, 10 + dx, 10 + dy


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ((-30, 0), {"left of"}),
        ((30, 0), {"right of"}),
        ((0, -30), {"above"}),
        ((0, 30), {"below"}),
        ((-30, -30), {"left of", "above"}),
        ((30, 14), {"right of"}),
        ((0, 0), set()),  # same centre: no direction
        ((-2, 0), set()),  # inside the shrink margin of 0.1 x (10 + 10)
        ((-4, 0), set()),  # (4 - 2) / 4 = 0.5 does not pass the threshold
        ((-5, 0), {"left of"}),  # (5 - 2) / 5 = 0.6 does
    ],
)
def test_golden_cases(offset, expected) -> None:
    assert relations_between(moved(*offset), UNIT) == expected


def test_everything_about_a_relation_follows_from_its_direction() -> None:
    assert PLANAR == ("left of", "right of", "above", "below") and set(RELATIONS) == set(SPATIAL)
    assert (*PLANAR, "is", "in front of", "behind") == LABELS  # answers of classifiers that lie somewhere keep theirs
    assert OPPOSITE["in front of"] == "behind" and all(OPPOSITE[OPPOSITE[name]] == name for name in RELATIONS)
    assert relation_named("in front of") == "in front of" and relation_named("Behind ") == "behind"
    assert relation_named("on") is None


@pytest.mark.parametrize(
    ("names", "turned"),
    [
        (
            (*PLANAR, "in front of", "behind"),
            [[1, 0, 2, 3, 4, 5], [0, 1, 3, 2, 4, 5], [2, 3, 0, 1, 4, 5], [1, 0, 3, 2, 5, 4]],
        ),
        (("left of", "right of"), [[1, 0], [0, 1], [1, 0]]),  # transposed, "left of" would be "above"
        (("in front of", "behind"), [[0, 1], [0, 1], [0, 1], [1, 0]]),
        (("above", "in front of"), [[0, 1]]),
    ],
)
def test_symmetries_are_those_of_the_labels(names: tuple[str, ...], turned: list[list[int]]) -> None:
    """Mirrored left-right, up-down, transposed, subject and object exchanged."""
    assert [symmetry.labels_R.tolist() for symmetry in symmetries_of(names)] == turned


@pytest.mark.parametrize("labels", ["single", "powerset"])
def test_a_group_average_knows_of_depth(labels: str) -> None:
    source = replace(SOURCE, relations=(*PLANAR, "in front of", "behind"))
    config = ClassifierConfig(kind="conv", width=8, group_average=True, labels=labels)
    model = build_classifier(config, source).eval()
    maps = torch.rand(3, 2, source.channels, source.grid, source.grid, generator=torch.Generator().manual_seed(0))
    step = torch.zeros(3, dtype=torch.long)
    with torch.no_grad():
        before, after = (Labels(labels).log_probability(model(each, step)) for each in (maps, maps.flip(1)))
    assert (after[:, [1, 0, 3, 2, 5, 4]] - before).abs().max() < 1e-6


def test_a_classifier_follows_the_relations_of_its_data(tmp_path: Path) -> None:
    """Labels, wrong prompts and what is steered; a prompt of what it does not know is one clear line."""
    data = {"source": "jsonl", "path": str(tmp_path), "train": 1, "val": 1, "test": 1}
    depth = {**data, "relations": ["behind", "left of", "in front of"]}
    with pytest.raises(UserError, match="set benchmark.relations to left of, in front of, behind"):
        load_run_config("sd21", {"data": depth})
    run = load_run_config("sd21", {"data": depth, "benchmark.relations": ["left of"]})
    assert run.data.labels == run.data.wrongly_stated == ("left of", "in front of", "behind")
    assert run.data.shown == ("left of",)
    with pytest.raises(UserError, match="labels is powerset, a class for every diagonal, and data.relations lacks"):
        load_run_config("sd21", {"data": depth, "benchmark.relations": ["left of"], "classifier.labels": "powerset"})
    with pytest.raises(UserError, match="in front of, which the rule of geneval cannot tell; allowed: left of"):
        load_run_config("sd21", {"data": depth, "benchmark.relations": ["in front of"]})
    with pytest.raises(UserError, match="relations has behind, and scenes of the small world are flat"):
        load_run_config("mini-sd", {"data.relations": ["left of", "behind"], "benchmark.relations": ["left of"]})
    source = replace(SOURCE, relations=run.data.labels)
    config = ClassifierConfig(kind="conv", width=8)
    classifier = TrainedClassifier(model=build_classifier(config, source).eval(), config=config, source=source)
    objective = ClassifierObjective.of(classifier)
    maps = torch.rand(2, 2, source.channels, source.grid, source.grid, generator=torch.Generator().manual_seed(0))
    asked = Targets.of([parse_prompt("a dog behind a cat"), parse_prompt("a dog left of a cat")])
    objective.require_known(asked)
    step = torch.zeros(2, dtype=torch.long)
    expected = -classifier.log_probability(maps, step)[[0, 1], [2, 0]]
    for loss in (
        objective.loss(maps, step, asked.label_P),
        objective.loss_among(maps, step, asked.label_P, asked.wanted_PR),
    ):
        torch.testing.assert_close(loss, expected)
    with pytest.raises(UserError, match="relation 'above', and this .* knows left of, in front of, behind"):
        objective.require_known(Targets.of([parse_prompt("a dog above a cat")]))
    with pytest.raises(UserError, match="the relation 'behind', and this .* data whose data.relations has 'behind'"):
        CentroidObjective(source=SOURCE, margin=0.1).require_known(asked)
