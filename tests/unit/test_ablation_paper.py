"""The ablation from ours to the paper's procedure: what its points are, and rows of several seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.judged import WRONG, judged_image

from l2s_core.config import load_run_config
from l2s_core.evaluation.judged_image import FILE, write_judged
from l2s_core.experiments.ablations import REFERENCE, SEED, Ablation, plan_ablations
from l2s_core.experiments.sweeps import PointResult, PointState
from l2s_core.report.ablation_table import Ablations, AblationTable
from l2s_core.report.ablations import ablation_table
from l2s_core.report.page import render_page


def test_each_point_takes_one_more_choice_back_and_the_last_is_the_papers_procedure() -> None:
    (ablation,) = plan_ablations("mini-sd", ["paper"], {"data.train": 800})
    assert not ablation.left_out
    runs = [load_run_config("mini-sd", point.overrides) for point in ablation.points]
    assert len(runs) == 9 * 3 and [run.classifier.seed for run in runs] == [0, 1, 2] * 9
    assert {run.benchmark.suite for run in runs} == {"dev"} and {run.data.train for run in runs} == {800}
    first, last = runs[0], runs[-3]
    ours, paper = load_run_config("mini-sd"), load_run_config("sd21")
    for section in ("backbone", "inversion", "capture", "classifier", "steering"):
        assert getattr(first, section) == getattr(ours, section)
    assert last.classifier == paper.classifier
    assert last.capture == ours.capture.model_copy(update={"antialias": False, "order": paper.capture.order})
    assert last.steering == load_run_config("mini-sd", {"steering": "paper"}).steering
    assert last.steering == paper.steering.model_copy(update={"until_step": 10})
    changed = [
        {name for name in ("capture", "classifier", "steering") if getattr(before, name) != getattr(after, name)}
        for before, after in zip(runs[::3], runs[3::3], strict=False)
    ]
    assert changed == [{"steering"}, {"steering"}, *[{"classifier"}] * 5, {"capture"}]


def test_it_runs_where_it_is_named() -> None:
    assert "paper" not in {ablation.config.name for ablation in plan_ablations("mini-sd")}


def tabled(home: Path, ablation: Ablation, hits: list[int | None]) -> AblationTable:
    """The table where that many of 40 images of each run are right, the first ones; None is one that failed."""
    rows = []
    for point, count in zip(ablation.points, hits, strict=False):
        if count is None:
            rows.append(PointResult.of(point, PointState.FAILED, reason="broken"))
            continue
        write_judged(
            home / point.point_id / FILE, [judged_image(i, *([] if i < count else [WRONG])) for i in range(40)]
        )
        metrics = {f"test_accuracy_{kind}_prompts": count / 40 for kind in ("true", "wrong")}
        quality = {"kid_change": count / 1000, "kid_change_error": 0.002}
        rows.append(PointResult.of(point, PointState.FINISHED, verdicts=point.point_id, metrics=metrics | quality))
    return ablation_table(ablation, rows, home)


def test_the_runs_of_a_points_seeds_are_one_row(tmp_path: Path) -> None:
    """Each is held against the reference's run of the same seed."""
    (ablation,) = plan_ablations("mini-sd", ["paper"])
    table = tabled(tmp_path, ablation, [30, 20, 40, 30, 10, 35, 30, None, 30])
    reference, other, broken = table.rows
    assert (reference.label, other.label) == (REFERENCE, "updates never stop early") and SEED not in other.settings
    assert reference.figures.correct_by_seed == (0.75, 0.5, 1.0) and reference.figures.correct.count == 120
    assert reference.figures.kid_change == pytest.approx(0.03) and reference.figures.kid_error == 0.002
    assert reference.figures.accuracy["true"] == 0.75
    assert other.difference.rate == pytest.approx((0 - 10 - 5) / 120) and reference.difference is None
    assert (other.difference.only_reference, other.difference.only_point) == (15, 0)
    assert (broken.state, broken.reason, broken.figures) == (PointState.FAILED, "broken", None)
    assert AblationTable.from_json(json.loads(json.dumps(table.to_json()))) == table
    page = Ablations(name="mini-sd", identity="a", config=ablation.run.model_dump(mode="json"), tables=(table,))
    text = render_page({"ablations": page}, {}, "ablations.html")
    assert "0.75, 0.50, 1.00" in text and "+30.0 ± 2.0" in text and "failed: broken" in text
