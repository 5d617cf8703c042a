"""What the report says of the methods: their order, the front, failures by kind, parts, the paper's figures.

The pages are read as well.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.judged import MISSING, NOWHERE, WRONG, BlindJudge, judged_image
from helpers.runs import run_of
from matplotlib.figure import Figure
from matplotlib.text import Text

from l2s_core.config import MAIN, PLAIN, load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.judged_image import FILE, JudgedImage, read_judged, write_judged
from l2s_core.evaluation.metrics.published import GENEVAL_POSITION, published_beside
from l2s_core.evaluation.pictures import method_images
from l2s_core.evaluation.protocols.pairs import Pairs
from l2s_core.evaluation.protocols.verdict import CORRECT, Failure, FailureKind, Verdict
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.samples import SampleShard, save_samples
from l2s_core.report.breakdown import PARTS, breakdown
from l2s_core.report.comparison import build_comparison, report_files, table_rows
from l2s_core.report.failures import choose_failures, failure_kind, failures_summary
from l2s_core.report.figures import attention_figure
from l2s_core.report.gallery import failure_pictures
from l2s_core.report.grids import COLOURS, draw_boxes
from l2s_core.report.grids import OTHER as GREY
from l2s_core.report.leaderboard import against_main, leaderboard
from l2s_core.report.page import render_page
from l2s_core.report.pareto import Spot, cost_scale, draw_front, pareto_front
from l2s_core.report.significance_page import p_text
from l2s_core.storage.files import read_json, write_json

SETTINGS = {"benchmark.prompts": 4, "benchmark.seeds": 2, "classifiers": {}, "shard": 8}


def rows(*failures: Failure | None) -> list[JudgedImage]:
    return [judged_image(number, *([failure] if failure else [])) for number, failure in enumerate(failures)]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(1, 0.5)], [0]),
        ([(3, 0.8), (1, 0.8), (2, 0.2), (4, 0.9)], [1, 3]),
        ([(1, 0.5), (1, 0.7)], [1]),  # of the same cost: a front drawn from left to right once held both
        ([(1, 0.7), (2, 0.7)], [0]),
        ([(1, 0.7), (2, 0.9), (1, 0.7)], [0, 2, 1]),  # equal points stay together
        ([(1, float("nan")), (2, 0.1), (float("inf"), 0.9)], [1]),
        ([(0, 0.3), (0, 0.3), (0, 0.2)], [0, 1]),
    ],
)
def test_the_front(points: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points) == front


def test_costs_that_differ_widely_are_drawn_by_ratio() -> None:
    assert [cost_scale(costs) for costs in ([1, 10], [1, 10.1], [0, 1, 11], [0, 3], [0, 0], [])] == [
        "linear",
        "log",
        "symlog",
        "linear",
        "linear",
        "linear",
    ]


def test_what_no_one_can_use_is_on_no_front() -> None:
    axes = Figure().subplots()
    spots = [
        Spot(cost=c, value=v, label=n, apart=n == "oracle")
        for c, v, n in ((1, 0.2, "plain"), (2, 0.6, "steered"), (1, 0.9, "oracle"))
    ]
    draw_front(axes, spots, xlabel="", ylabel="")
    (line,) = axes.lines
    assert list(zip(*line.get_data(), strict=True)) == [(1, 0.2), (2, 0.6)]


def test_labels_of_close_points_do_not_overlap() -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    spots = [
        Spot(cost=1 + 0.01 * k, value=0.5 + 0.002 * k, label=f"steered by number {k}", low=0.4, high=0.6)
        for k in range(6)
    ]
    draw_front(axes, [*spots, Spot(cost=3, value=0.9, label="far away")], xlabel="", ylabel="")
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(note) for note in axes.texts]  # without the lines to the marks
    assert len(boxes) == 7
    for i, box in enumerate(boxes):
        assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[:i]), axes.texts[i].get_text()


SURPLUS = Failure(kind=FailureKind.SURPLUS, objects=("dog",), count=3, found=3)
MISCOLORED = Failure(kind=FailureKind.WRONG_COLOR, objects=("car",), asked="red", there=("red", "blue"), count=2)


@pytest.mark.parametrize(
    ("failures", "reason", "kind"),
    [
        ((), "correct", None),
        ((MISSING,), "not found: dog", FailureKind.MISSING),
        ((WRONG,), "dog is above, not left of cat", FailureKind.WRONG_RELATION),
        ((NOWHERE,), "dog is in no relation, not left of cat", FailureKind.NO_RELATION),
        ((WRONG, MISSING), "dog is above, not left of cat; not found: dog", FailureKind.MISSING),
        ((NOWHERE, WRONG), None, FailureKind.WRONG_RELATION),
        ((replace(MISSING, count=1, found=0),), "found 0 of 1 dog", FailureKind.MISSING),
        ((replace(WRONG, there=None),), "no cat for the dog to be left of", FailureKind.WRONG_RELATION),
        ((replace(WRONG, score=0.314),), "position scores 0.31 for left of", FailureKind.WRONG_RELATION),
        ((SURPLUS,), "found 3 dog, fewer than 3 allowed", FailureKind.SURPLUS),
        ((MISCOLORED,), "car looks red and blue, not all red", FailureKind.WRONG_COLOR),
        (
            (replace(MISCOLORED, count=1), MISSING),
            "car looks red and blue, not red; not found: dog",
            FailureKind.MISSING,
        ),
    ],
)
def test_kinds_of_failures_and_their_words(
    failures: tuple[Failure, ...], reason: str | None, kind: FailureKind | None
) -> None:
    image = replace(judged_image(0), verdict=Verdict(failures=failures))
    assert failure_kind(image) is kind and image.verdict.reason == (reason or image.verdict.reason)
    assert image.correct == (not failures) and JudgedImage.from_json(json.loads(json.dumps(image.to_json()))) == image


def test_judged_images_come_back_from_their_file(tmp_path: Path) -> None:
    """Also of methods that choose among candidates; what is no such file is said in one line."""
    box = Detection(name="dog", box=(0, 1, 2, 3), score=0.5)
    chosen = judged_image(2, NOWHERE, score=0.25, candidates=4, chosen=0, peak_bytes=7, detections=(box,))
    images = [judged_image(0), judged_image(1, MISSING), chosen]
    write_judged(tmp_path / FILE, images)
    assert read_judged(tmp_path / FILE) == images
    stored = read_json(tmp_path / FILE)
    assert [(row["correct"], row["all_found"], row["reason"]) for row in stored] == [
        (True, True, "correct"),
        (False, False, "not found: dog"),
        (False, True, "is in no relation, not left of"),
    ]
    assert ["chosen" in row for row in stored] == [False, False, True]
    for broken in ({"images": []}, [{**stored[0], "failures": [{"kind": "gone"}]}], [{"prompt": "p"}], ["x"], 3):
        write_json(tmp_path / FILE, broken)
        with pytest.raises(UserError, match="verdicts.json holds no verdicts .*; delete it") as caught:
            read_judged(tmp_path / FILE)
        assert "\n" not in str(caught.value)


def test_every_image_is_counted_once_and_against_its_plain_one() -> None:
    verdicts = {
        PLAIN: rows(None, None, WRONG, MISSING, WRONG),
        MAIN: rows(None, NOWHERE, None, WRONG, None),
    }
    summary = failures_summary(verdicts)
    assert summary["kinds"][PLAIN] == {
        "correct": 2,
        "object missing": 1,
        "too many objects": 0,
        "wrong relation": 2,
        "in no relation": 0,
        "wrong colour": 0,
    }
    assert all(sum(counts.values()) == 5 for counts in summary["kinds"].values())
    assert summary["changed"] == {MAIN: {"broken": 1, "repaired": 2}}
    assert [(shown["item_id"], shown["kind"], shown["right_plain"]) for shown in summary["shown"]] == [
        ("i3", "wrong relation", False),
        ("i1", "in no relation", True),
    ]
    assert json.loads(json.dumps(summary)) == summary


def test_failures_are_the_first_of_each_kind_in_turn() -> None:
    judged = rows(*[WRONG] * 6, None, *[MISSING] * 3, NOWHERE, *[WRONG] * 9)
    expected = {
        3: ([7], [0], [10]),
        7: ([7, 8, 9], [0, 1, 2], [10]),  # missing and wrong share what the only one of its kind leaves
        10: ([7, 8, 9], [0, 1, 2, 3, 4, 5], [10]),
    }
    for count, kinds in expected.items():
        assert [r.item_id for r in choose_failures(judged, count)] == [f"i{k}" for numbers in kinds for k in numbers]
    assert len(choose_failures(judged, 99)) == 19 and choose_failures(rows(None)) == []


def rate(value: float) -> dict[str, float]:
    return {"rate": value, "low": value, "high": value}


def test_the_leaderboard_goes_by_accuracy_then_by_gradients() -> None:
    methods = {"plain": (0.2, 0), "main": (0.6, 11), "slow": (0.6, 30), "best": (0.9, 5)}
    table = [
        {
            "name": name,
            "label": name,
            "correct": rate(value),
            "all_found": rate(1),
            "extra": rate(0),
            "gradients": gradients,
            "checks": 0,
            "seconds": 1.0,
            "peak_bytes": None,
        }
        for name, (value, gradients) in methods.items()
    ]
    table[0]["peak_bytes"] = 2**30
    verdicts = {name: rows(*[None] * 4) for name in methods}
    board = leaderboard(table, verdicts, {"best": {"kid_change": {"mean": 0.1, "error": 0.2}}, "plain": {"kid": {}}})
    assert [entry["name"] for entry in board] == ["best", "main", "slow", "plain"]
    assert [entry["against_main"] is None for entry in board] == [False, True, False, False]
    assert board[0]["kid_change"]["mean"] == 0.1 and board[3]["kid_change"] is None
    assert [entry["peak_bytes"] for entry in board] == [None, None, None, 2**30]
    assert json.loads(json.dumps(board)) == board and all(
        entry["kid_change"] is None for entry in leaderboard(table, verdicts, None)[:3]
    )


def test_a_method_differs_from_steering_only_after_correction() -> None:
    """Six prompts won, two images each, and none lost: p is 2 / 64, which holds alone and not among two comparisons."""
    steered = rows(*[None] * 12, *[WRONG] * 12)
    other = rows(*[WRONG] * 24)
    alone = against_main({MAIN: steered, PLAIN: other})[PLAIN]
    assert alone["differs"] and alone["p"] == alone["holm"] == pytest.approx(2 / 64)
    assert (alone["difference"], alone["only_main"], alone["only_this"]) == (-0.5, 12, 0) and alone["high"] < 0
    both = against_main({PLAIN: other, MAIN: steered, "x": other[::-1]})
    assert both["x"]["holm"] == pytest.approx(4 / 64) and not both["x"]["differs"] and list(both) == [PLAIN, "x"]
    assert against_main({MAIN: steered}) == {}


def test_several_relations_have_a_rate_of_their_own_on_the_board() -> None:
    table = [
        {
            "name": "main",
            "label": "steered",
            "correct": rate(0.5),
            "all_found": rate(1),
            "extra": rate(0),
            "gradients": 1,
            "checks": 0,
            "seconds": 1.0,
            "peak_bytes": None,
        }
    ]
    verdicts = {MAIN: rows(None)}
    assert "single_relations" not in leaderboard(table, verdicts, None)[0]
    assert (
        leaderboard([table[0] | {"single_relations": rate(0.8)}], verdicts, None)[0]["single_relations"]["rate"] == 0.8
    )


@pytest.mark.parametrize("objects", [("dog", "cat"), ("dog", "cat", "bird", "car")])
def test_attention_is_drawn_in_the_colours_that_the_title_names(objects: tuple[str, ...]) -> None:
    maps = np.zeros((1, len(objects), 4, 4))
    for o in range(len(objects)):
        maps[0, o, o, o] = 1 + o
    figure = attention_figure([np.zeros((8, 8, 3), np.uint8)], [maps], ["plain"], [3], objects)
    drawn = figure.axes[0].images[0].get_array()
    assert (
        drawn[0, 0].tolist() == [1, 0, 0]
        and drawn[1, 1].tolist() == [0, 0, 1]
        and drawn[2, 2].tolist() == [0, len(objects) > 2, 0]
    )
    third = " and cat (blue)" if len(objects) == 2 else ", cat (blue) and bird (green)"
    assert figure.get_suptitle() == f"attention to dog (red){third}"


def test_parts_that_a_method_lacks_stay_empty() -> None:
    table = [
        {"by_relation": {"above": {"count": 3, "rate": 0.2}}},
        {"by_relation": {"below": {"count": 2}, "above": {"count": 3, "rate": 0.7}}},
    ]
    above, below = breakdown(table, "by_relation")
    assert above["value"] == "above" and above["count"] == 3 and [r["rate"] for r in above["rates"]] == [0.2, 0.7]
    assert below == {"value": "below", "count": 0, "rates": [None, {"count": 2}]}


def test_only_the_papers_own_figures_are_quoted() -> None:
    assert [(f.architecture, f.plain, f.steered) for f in GENEVAL_POSITION] == [
        ("sd21", 0.07, 0.54),
        ("flux-dev", 0.20, 0.61),
    ]
    for name in ("sd21", "flux-dev"):
        figures, note = published_beside(load_run_config(name))
        assert [f.architecture for f in figures] == [name] and "same backbone" in note
    figures, note = published_beside(load_run_config("mini-sd"))
    assert len(figures) == 2 and note.startswith("Not comparable with this run, which has other models, other prompts")
    figures, note = published_beside(load_run_config("sd14"))
    assert len(figures) == 2 and "other backbones" in note
    figures, note = published_beside(load_run_config("sd21", {"benchmark.tags": ["two_object"]}))
    assert len(figures) == 2 and "Not comparable with this run, which has other prompts" in note


@pytest.mark.parametrize("asked", [["dog", "cat", "bird"], ["dog", "cat"]])
def test_boxes_have_the_colour_of_their_place_in_the_prompt(asked: list[str]) -> None:
    boxes = {name: (16 * k, 0, 16 * k + 12, 12) for k, name in enumerate(("bird", "cat", "dog", "car"))}
    finds = tuple(Detection(name=name, box=box, score=0.9) for name, box in boxes.items())
    picture = draw_boxes(np.zeros((64, 64, 3), np.uint8), judged_image(0, objects=asked, detections=finds), 64)
    third = COLOURS[2] if len(asked) > 2 else GREY
    assert [picture.getpixel((x, 0)) for x in (0, 16, 32, 48)] == [third, COLOURS[1], COLOURS[0], GREY]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A benchmark with one method: images whose grey is their number, and verdicts."""
    config = load_run_config("mini-sd", SETTINGS | {"methods": {"centroid": {"kind": "centroid"}}})
    made = run_of(tmp_path, config)
    failing = {PLAIN: {0: WRONG, 1: MISSING, 9: WRONG}, MAIN: {1: WRONG, 5: NOWHERE}, "centroid": {0: WRONG}}
    for method, kinds in failing.items():
        judged = [
            judged_image(
                k,
                *([kinds[k]] if k in kinds else []),
                item_id=item.item_id,
                prompt=item.prompt.text,
                seed=item.seed,
                prompt_group=item.prompt_group,
            )
            for k, item in enumerate(made.items)
        ]
        write_judged(made.paths.verdicts(method) / FILE, judged)
        number = 0
        for name, items in made.item_shards():
            greys = torch.arange(number, number + len(items), dtype=torch.uint8)
            cost = {key: torch.zeros(len(items)) for key in ("gradients", "checks", "skipped")}
            images = greys.view(-1, 1, 1, 1).expand(-1, 16, 16, 3).contiguous()
            save_samples(
                made.paths.samples(method) / f"{name}.safetensors",
                SampleShard(item_ids=[i.item_id for i in items], images=images, seconds=1.0, **cost),
            )
            number += len(items)
    return made


def test_images_are_found_in_any_order(run: Run) -> None:
    ids = [run.items[k].item_id for k in (17, 2, 9)]
    assert [int(image[0, 0, 0]) for image in method_images(run, MAIN, ids)] == [17, 2, 9]
    assert method_images(run, MAIN, []) == []  # a run without failures shows none


def test_a_benchmark_says_what_its_tables_hold(run: Run) -> None:
    summary = build_comparison(run, BlindJudge())
    page = (run.paths.report / "report.html").read_text()
    assert all(path.is_file() for path in report_files(run.paths.report)) and read_json(
        run.paths.report / "summary.json"
    ) == json.loads(json.dumps(summary))
    parts = (
        "Leaderboard",
        "By relation",
        "Published (not measured here)",
        "Accuracy against cost",
        "Pictures",
        "What went wrong",
        "Settings",
    )
    assert (
        all(f"{part}</h2>" in page for part in parts)
        and "Image quality" not in page
        and "l2s benchmark mini-sd" in page
    )
    assert page.count("<img") == 2 + len(summary["failures"]["shown"])
    assert [entry["name"] for entry in summary["leaderboard"]] == ["centroid", MAIN, PLAIN]
    assert set(summary["failures"]["kinds"]) == {PLAIN, MAIN, "centroid"} and len(summary["published"]["figures"]) == 2


@pytest.mark.parametrize("quality", [None, {MAIN: {"kid_change": {"mean": 0.0123, "error": 0.004}}}])
@pytest.mark.parametrize("notes", [{}, {"centroid": "a handcrafted loss"}])
def test_pages_with_and_without_methods_and_quality(run: Run, quality: dict | None, notes: dict) -> None:
    summary = build_comparison(run, BlindJudge())
    table = table_rows(summary)
    shown = summary["failures"]["shown"]
    summary["leaderboard"][0]["peak_bytes"] = 3 * 2**29
    for entry in summary["leaderboard"]:
        entry["kid_change"] = (quality or {}).get(entry["name"], {}).get("kid_change")
    verdicts = {method: read_judged(run.paths.verdicts(method) / FILE) for method in run.methods}
    pictures = {"pareto": Figure(), "failures": failure_pictures(run, verdicts, [item["item_id"] for item in shown])}
    values = {
        **summary,
        "config": run.config,
        "quality": quality,
        "method_notes": notes,
        "labels": {r["name"]: r["label"] for r in table},
        "steered": table[1],
        "breakdowns": {title: breakdown(table, part) for part, title in PARTS.items()},
        "group_names": Pairs.GROUP_NAMES,
        "right": CORRECT,
    }
    parts = {
        name: render_page(values, pictures, f"{name}.html", p=p_text)
        for name in ("leaderboard", "breakdown", "failures", "published")
    }
    board = parts["leaderboard"]
    assert board.index(">centroid<") < board.index(">steered<") < board.index(">plain<")
    assert "1.50 GiB" in board and board.count("<td>–</td>") == (2 if quality is None else 4)
    assert ("+12.3 ± 4.0" in board) == ("KID change" in board) == (quality is not None) and (
        "handcrafted" in board
    ) == bool(notes)
    assert "objects never seen by the classifier" in parts["breakdown"]
    failures = parts["failures"]
    assert failures.count("<figure>") == failures.count('src="data:image/png;base64,') == len(shown) == 2
    assert (
        "is in no relation, not left of" in failures
        and failures.count("broken by steering") == 1
        and "2 of 2" in failures
    )
    assert ">too many objects<" not in failures and ">wrong colour<" not in failures  # kinds that no image has
    assert (
        "published: FLUX.1-dev" in parts["published"]
        and "0.61" in parts["published"]
        and "Not comparable" in parts["published"]
    )


def test_scores_from_elsewhere_are_shown_where_there_are_any() -> None:
    values = {
        "labels": {"plain": "plain", MAIN: "steered"},
        "config": load_run_config("mini-sd", {"benchmark.clip": "some-clip"}),
    }
    assert render_page({**values, "clip": None, "official": {}}, {}, "scores.html").strip() == ""
    rates = {"position": {"rate": 0.5, "low": 0.4, "high": 0.6}, "all": {"rate": 0.25, "low": 0.2, "high": 0.3}}
    page = render_page(
        {**values, "clip": {MAIN: {"mean": 31.25, "error": 0.5}}, "official": {"plain": rates}}, {}, "scores.html"
    )
    assert "31.25 ± 0.50" in page and "some-clip" in page and "<th>position</th><th>all</th>" in page and "0.25" in page
