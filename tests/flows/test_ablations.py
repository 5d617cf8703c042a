"""Ablations: every shipped one on every small model, and a real one.

Values relative to the reference, tables, what ablations share.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from helpers.judged import WRONG, judged_image, method_summary, run_summary
from helpers.small_run import SETTINGS, shards
from helpers.tracking import mlflow_client

from flows.cli import main
from l2s_core.attention.layers import select_layers
from l2s_core.backbones.unet import UNetBackbone
from l2s_core.config import MAIN, load_run_config
from l2s_core.config.relative import resolve
from l2s_core.errors import UserError
from l2s_core.evaluation.judged_image import FILE, write_judged
from l2s_core.evaluation.run_summary import FORMAT as SUMMARY_FORMAT
from l2s_core.experiments.ablations import FOLDER, REFERENCE, SEED, Ablation, plan_ablations
from l2s_core.experiments.sweeps import PointResult, PointState
from l2s_core.report.ablation_table import FORMAT, Ablations, AblationTable
from l2s_core.report.ablations import ablation_table, load_ablations, write_ablation
from l2s_core.report.page import render_page
from l2s_core.storage.files import read_json, write_json
from l2s_core.storage.versioned import write_versioned

pytestmark = [pytest.mark.server, pytest.mark.slow]

NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SMALL_MODELS = ("mini-sd", "mini-flux")
SETS = [
    part
    for key, value in {**SETTINGS, "benchmark.prompts": 1}.items()
    if key not in ("name", "classifiers")
    for part in ("--set", f"{key}={value}")
]


def invoke(*arguments: Any, code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def write(path: Path, *points: dict, name: str = "tiny") -> str:
    path.write_text(
        yaml.safe_dump({"name": name, "title": "A title", "question": "A question?", "points": list(points)})
    )
    return str(path)


@pytest.mark.parametrize("config", SMALL_MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_ablation_has_valid_points_that_differ(name: str, config: str) -> None:
    (ablation,) = plan_ablations(config, [name])
    reference = ablation.points[0]
    assert ablation.config.name == name and reference.label.startswith(REFERENCE) and not set(reference.varied) - {SEED}
    runs = [load_run_config(config, point.overrides) for point in ablation.points]
    assert all(run != other for i, run in enumerate(runs) for other in runs[:i])
    assert 3 <= len(runs) / ablation.config.runs_a_point <= (9 if ablation.config.cumulative else 5)
    assert {run.benchmark.suite for run in runs} == {"dev"} and not any(run.classifiers or run.methods for run in runs)
    base = load_run_config(config)
    for section in ("backbone", "data", "inversion", "capture", "classifier", "steering"):
        assert getattr(runs[0], section) == getattr(base, section)  # the reference is the configuration as it is


@pytest.mark.parametrize("config", ["mini-flux-few", "sd14", "sd21", "flux-schnell", "flux-dev"])
def test_no_point_goes_beyond_another_configuration(config: str) -> None:
    for ablation in plan_ablations(config):
        assert ablation.points[0].label == REFERENCE
        for point in ablation.points:
            load_run_config(config, point.overrides)


def test_all_scenes_of_a_mixture_shrink_together() -> None:
    (ablation,) = plan_ablations("sd21", ["data-size"])
    counts = [[part.train for part in load_run_config("sd21", point.overrides).data.parts] for point in ablation.points]
    assert counts == [[800, 800], [200, 200], [400, 400]]


def test_the_layers_of_mini_sd(backbone: UNetBackbone) -> None:
    (ablation,) = plan_ablations("mini-sd", ["layers"])
    found = {
        p.label: [x.name for x in select_layers(backbone.layers(), p.varied["capture.layers"])]
        for p in ablation.points[1:]
    }
    assert {label: len(names) for label, names in found.items()} == {
        "down blocks": 2,
        "mid block": 1,
        "up blocks": 4,
        "finest maps only": 3,
    }
    assert sorted(sum((found[label] for label in ("down blocks", "mid block", "up blocks")), [])) == sorted(
        x.name for x in backbone.layers()
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"times": 0.25}, 2),
        ({"times": 0.01}, 1),
        ([1], [1]),
        ("name", "name"),
        ({"base": "dev"}, {"base": "dev"}),
        ({"times": 1, "last": 1}, {"times": 1, "last": 1}),
    ],
)
def test_a_share_of_a_whole_number_is_one_or_more(value: Any, expected: Any) -> None:
    assert resolve("a.b", value, {"a": {"b": 10}}) == expected


def test_parts_of_a_list_count_from_its_end() -> None:
    tree = {"steps": [0, 1, 2, 3, 4, 5, 7, 9], "sources": [{"n": 8, "of": "x"}], "size": 0.1, "shift": 0}
    assert resolve("steps", {"every": 2}, tree) == [1, 3, 5, 9] and resolve("steps", {"last": 2}, tree) == [7, 9]
    assert (
        resolve("sources", {"each": {"n": {"times": 0.5}}}, tree) == [{"n": 4, "of": "x"}]
        and tree["sources"][0]["n"] == 8
    )
    assert resolve("size", {"times": 3}, tree) == 0.3 and resolve("shift", {"times": 4}, tree) == 0
    for key, value in (
        ("steps", {"times": 2}),
        ("size", {"every": 2}),
        ("steps", {"last": 0}),
        ("steps.x", {"times": 1}),
        ("size", {"each": {}}),
    ):
        with pytest.raises(UserError, match=key.replace(".", r"\.")):
            resolve(key, value, tree)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mini-sd", "confidense"], "no ablation 'confidense'; did you mean 'confidence'"),
        (["mini-ds"], "did you mean 'mini-sd'"),
        (
            ["mini-sd", "confidence", "--set", "benchmark.suite=test"],
            "benchmark.suite is test, which is for reporting alone",
        ),
        (["mini-sd", "confidence", "--set", "benchmark=test"], "benchmark.suite is test, which is for reporting alone"),
        (["sd21", "confidence", "--set", "benchmark.file=x.jsonl"], "benchmark.file has the prompts that are reported"),
        (["mini-sd", "--set", "steering.updatez=3"], "did you mean 'updates'"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    output = invoke("ablate", *arguments, "--home", tmp_path, code=2)
    assert message in output and len(output.strip().splitlines()) == 1


def test_the_dry_run_says_what_the_points_of_all_ablations_share(tmp_path: Path) -> None:
    """mini-sd: three sizes of data, and of maps.

    Every one of them has its own classifier, and one classifier is steered with twice more.
    """
    names = ["data-size", "map-size", "confidence"]
    report = tmp_path / "reports" / "mini-sd" / "summary.json"
    summary = run_summary(train_seconds=36)
    steered = replace(summary.classifiers[MAIN].steered, summary=method_summary(seconds=2))
    main = replace(summary.classifiers[MAIN], steered=steered)
    config = load_run_config("mini-sd").model_dump(mode="json")
    write_versioned(report, SUMMARY_FORMAT, {**replace(summary, classifiers={MAIN: main}).to_json(), "config": config})
    dry = ("ablate", "mini-sd", *names, "--dry-run", "--set", "steering.confidence=0.9", "--home", tmp_path)
    output = invoke(*dry)
    assert "left out  sure at 0.9: the same as 'as configured'" in output and "9 points of 3 ablations" in output
    found = {line.split("  ")[0]: re.findall(r"\d+", line)[:2] for line in output.splitlines()}
    expected = {"scenes": 3, "invert": 3, "capture": 5, "train": 5, "sample plain": 1, "sample steered": 7}
    assert {stage: found[stage] for stage in expected} == {
        stage: ["9", str(count)] for stage, count in expected.items()
    }
    assert "last report of mini-sd: about 0.65 h" in output  # 5 classifiers, 144 plain images, 7 times 144 steered ones
    assert not (tmp_path / "stages").exists()
    write_json(report, {"plain": {"seconds": 1}, "classifiers": {"main": {"steered": {"seconds": 2}}}})
    output = invoke(*dry)
    assert "the last report does not say how fast" in output and "written by an earlier version" in output
    without = replace(summary, classifiers={MAIN: replace(main, result=None)})
    write_versioned(report, SUMMARY_FORMAT, {**without.to_json(), "config": config})
    output = invoke(*dry)
    assert "at the speed of the last report" not in output and "h without the training" in output


def tabled(home: Path, ablation: Ablation, *hits: int | None) -> AblationTable:
    """The table of points with that many of 40 images right, the first ones; None is a point that failed."""
    rows = []
    for point, count in zip(ablation.points, hits, strict=True):
        row = PointResult.of(point, PointState.FAILED, reason="broken")
        if count is not None:
            images = [judged_image(i, *([] if i < count else [WRONG])) for i in range(40)]
            write_judged(home / point.point_id / FILE, images)
            metrics = {"test_accuracy_true_prompts": 0.8, "test_accuracy_wrong_prompts": float("nan")}
            row = PointResult.of(point, PointState.FINISHED, verdicts=point.point_id, metrics=metrics)
        rows.append(row)
    return ablation_table(ablation, rows, home)


def test_a_table_marks_what_chance_does_not_explain(tmp_path: Path) -> None:
    (ablation,) = plan_ablations("mini-sd", ["step-size"])
    reference, worse, same, failed, near = tabled(tmp_path, ablation, 30, 10, 30, None, 28).rows
    assert reference.difference is None and reference.text == "step_size=0.1" and reference.figures.correct.hits == 30
    assert worse.difference.rate == -0.5 and worse.difference.marked and worse.difference.high < 0
    assert worse.difference.p == pytest.approx(3 * 2 / 2**10)  # ten prompts; Holm: three points
    assert worse.difference.only_reference == 20
    assert same.difference.p == 1 and not near.difference.marked
    assert near.difference.rate == pytest.approx(-0.05)
    assert failed.state is PointState.FAILED and failed.reason == "broken"
    assert failed.difference is None and failed.figures is None
    assert worse.figures.accuracy == {"true": 0.8, "wrong": None}
    lost = tabled(tmp_path, ablation, None, 10, 30, 30, 28).rows
    assert lost[0].state is PointState.FAILED and not any(row.difference for row in lost)


def test_tables_of_the_same_reference_stand_together_and_a_run_finds_them(tmp_path: Path) -> None:
    sizes, schedule = plan_ablations("mini-sd", ["step-size", "schedule"])
    assert load_ablations(tmp_path, sizes.run) is None
    write_ablation(tmp_path, sizes, "a", tabled(tmp_path, sizes, 30, 10, 30, None, 28))
    page, _, table = write_ablation(tmp_path, schedule, "a", tabled(tmp_path, schedule, 30, 10, 30, 30, 30))
    found = load_ablations(
        tmp_path, load_run_config("mini-sd")
    )  # the run that is reported: another suite, further classifiers
    assert [one.name for one in found.tables] == ["schedule", "step-size"] and found.other_settings == ()
    assert Ablations.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    assert set(pd.read_csv(table)["steering.until_step"]) == {10, 5, 2}
    text = page.read_text()
    assert text.count("<table>") == 2 and "failed: broken" in text and "-0.50 (" in text and " *</td>" in text
    other = load_ablations(tmp_path, load_run_config("mini-sd", {"steering.updates": 3}))
    assert other.other_settings == ("steering",)
    assert "Held against other settings than this run's: steering differ" in render_page(
        {"ablations": other}, {}, "ablations.html"
    )
    write_ablation(tmp_path, sizes, "another reference", tabled(tmp_path, sizes, 30, 10, 30, None, 28))
    assert [one.name for one in load_ablations(tmp_path, sizes.run).tables] == ["step-size"] and not table.exists()


def test_tables_of_another_version_are_one_clear_line_and_give_way(tmp_path: Path) -> None:
    """Those of an earlier version had no `all_found`, and the page of a run that found them failed."""
    (sizes,) = plan_ablations("mini-sd", ["step-size"])
    table = tabled(tmp_path, sizes, 30, 10, 30, None, 28)
    _, path, _ = write_ablation(tmp_path, sizes, "a", table)
    stored = read_json(path)
    old = {key: value for key, value in stored.items() if key != "format"}
    for broken, said in ((old, "was written by an earlier version"), ({"ablations": [{}]}, "holds no ablations")):
        write_json(path, broken) if broken is old else write_versioned(path, FORMAT, broken)
        with pytest.raises(UserError, match=f"{path} {said}.*; delete it, or run 'l2s ablate' again") as caught:
            load_ablations(tmp_path, sizes.run)
        assert "\n" not in str(caught.value)
        write_ablation(tmp_path, sizes, "a", table)
        assert load_ablations(tmp_path, sizes.run).tables == (table,)


def test_a_run_without_ablations_shows_none() -> None:
    assert render_page({"ablations": None}, {}, "ablations.html").strip() == ""


def test_a_real_ablation_outlives_a_bad_point_and_shares_stages(tmp_path: Path, undisturbed: Path) -> None:
    """On the maps and the classifier of the small run: only images are made."""
    home = tmp_path / "home"
    shutil.copytree(undisturbed / "stages", home / "stages")
    before = shards(home)
    file = write(
        tmp_path / "tiny.yaml",
        {"label": "one update", "set": {"steering.updates": 1}},
        {"label": "beyond", "set": {"capture.steps": [1, 99]}},
    )
    output = invoke("ablate", "mini-sd", file, *SETS, "--home", home)
    assert "beyond: failed" in output and "capture.steps reaches 99, but backbone.steps is 3" in output
    folder = home / "ablations" / "mini-sd"
    (table,) = read_json(folder / "ablations.json")["ablations"]
    reference, one, beyond = table["rows"]
    assert reference["correct"]["count"] == one["correct"]["count"] == 3 and one["gradients"] < reference["gradients"]
    assert (
        one["difference"]["rate"] == pytest.approx(one["correct"]["rate"] - reference["correct"]["rate"])
        and beyond["difference"] is None
    )
    assert all(0 <= reference["accuracy"][kind] <= 1 for kind in ("true", "wrong"))
    assert "A question?" in (folder / "report.html").read_text() and len(pd.read_csv(folder / "tiny.csv")) == 3
    made = {path: stamp for path, stamp in shards(home).items() if before.get(path) != stamp}
    assert {path.parts[1] for path in made} == {"samples", "verdicts"} and len(
        {path.parts[2] for path in made if path.parts[1] == "samples"}
    ) == 3
    client = mlflow_client(home)
    experiment = client.get_experiment_by_name("learn-to-steer").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`l2s.point` = 'parent'")
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {child.data.tags["mlflow.runName"].partition(": ")[2]: child.info.status for child in children} == {
        REFERENCE: "FINISHED",
        "one update": "FINISHED",
        "beyond": "FAILED",
    }
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} == {
        "sweep.json",
        "ablations.json",
        "report.html",
        "tiny.csv",
    }
