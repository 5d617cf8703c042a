"""What the report says of the methods: their order, the front, failures by kind, parts, the paper's figures.

The pages are read as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.judged import MISSING, NOWHERE, WRONG, BlindJudge, judged_image, method_summary, rate, run_summary
from helpers.runs import run_of
from matplotlib.figure import Figure
from matplotlib.text import Text

from flows.publish import report_text
from l2s_core.config import MAIN, PLAIN, load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.judged_image import FILE, FORMAT, JudgedImage, read_judged, write_judged
from l2s_core.evaluation.methods.method import methods_of
from l2s_core.evaluation.metrics.clipscore import ClipScore
from l2s_core.evaluation.metrics.kid import KID
from l2s_core.evaluation.metrics.published import GENEVAL_POSITION, published_beside
from l2s_core.evaluation.metrics.quality import Quality
from l2s_core.evaluation.pictures import method_images
from l2s_core.evaluation.protocols.verdict import Failure, FailureKind, Verdict
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.run_summary import FORMAT as SUMMARY_FORMAT
from l2s_core.evaluation.run_summary import ClassifierFigures, MethodRow, RunSummary, read_summary
from l2s_core.evaluation.samples import SampleShard, save_samples
from l2s_core.evaluation.statistics.aggregate import MeanScore
from l2s_core.report import provenance
from l2s_core.report.breakdown import BreakdownLine, breakdown
from l2s_core.report.comparison import build_comparison, method_values, report_files
from l2s_core.report.failures import Changes, choose_failures, failure_kind, failures_summary
from l2s_core.report.figures import attention_figure
from l2s_core.report.gallery import failure_pictures
from l2s_core.report.grids import COLOURS, draw_boxes
from l2s_core.report.grids import OTHER as GREY
from l2s_core.report.leaderboard import against_main, leaderboard
from l2s_core.report.page import render_page
from l2s_core.report.pareto import Spot, cost_scale, draw_front, pareto_front
from l2s_core.report.provenance import commit
from l2s_core.report.significance_page import p_text
from l2s_core.storage.files import read_json, write_json
from l2s_core.storage.versioned import write_versioned

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
    stored = read_json(tmp_path / FILE)["images"]
    assert [(row["correct"], row["all_found"], row["reason"]) for row in stored] == [
        (True, True, "correct"),
        (False, False, "not found: dog"),
        (False, True, "is in no relation, not left of"),
    ]
    assert ["chosen" in row for row in stored] == [False, False, True]
    for broken in ({}, {"images": [{**stored[0], "failures": [{"kind": "gone"}]}]}, {"images": ["x"]}, {"images": 3}):
        write_versioned(tmp_path / FILE, FORMAT, broken)
        with pytest.raises(UserError, match="verdicts.json holds no verdicts .*; run again with --rebuild") as caught:
            read_judged(tmp_path / FILE)
        assert "\n" not in str(caught.value)


def test_every_image_is_counted_once_and_against_its_plain_one() -> None:
    verdicts = {
        PLAIN: rows(None, None, WRONG, MISSING, WRONG),
        MAIN: rows(None, NOWHERE, None, WRONG, None),
    }
    summary = failures_summary(verdicts)
    assert summary.kinds[PLAIN] == {
        "correct": 2,
        "object missing": 1,
        "too many objects": 0,
        "wrong relation": 2,
        "in no relation": 0,
        "wrong colour": 0,
    }
    assert all(sum(counts.values()) == 5 for counts in summary.kinds.values())
    assert summary.changed == {MAIN: Changes(broken=1, repaired=2)}
    assert [(shown.item_id, shown.kind, shown.right_plain) for shown in summary.shown] == [
        ("i3", "wrong relation", False),
        ("i1", "in no relation", True),
    ]
    stored = json.loads(json.dumps(asdict(summary)))
    assert stored["changed"] == {MAIN: {"broken": 1, "repaired": 2}} and stored["shown"][0]["kind"] == "wrong relation"


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


def row(name: str, correct: float, gradients: float = 0, **values: Any) -> MethodRow:
    """A method in a table, with every object found."""
    summary = method_summary(correct=correct, gradients=gradients, **values)
    return MethodRow(name=name, label=name, summary=summary, time_ratio=1.0)


def test_the_leaderboard_goes_by_accuracy_then_by_gradients() -> None:
    methods = {"main": (0.6, 11), "slow": (0.6, 30), "best": (0.9, 5)}
    plain = row("plain", 0.2, peak_bytes=2**30)
    table = [plain, *(row(name, value, gradients) for name, (value, gradients) in methods.items())]
    verdicts = {one.name: rows(*[None] * 4) for one in table}
    quality = {"best": Quality(kid=kid(0.0), kid_change=kid(0.1)), "plain": Quality(kid=kid(0.0))}
    board = leaderboard(table, verdicts, quality)
    assert [entry.name for entry in board] == ["best", "main", "slow", "plain"]
    assert [entry.against_main is None for entry in board] == [False, True, False, False]
    assert board[0].kid_change == kid(0.1) and board[3].kid_change is None
    assert [entry.peak_bytes for entry in board] == [None, None, None, 2**30]
    assert all(entry.kid_change is None for entry in leaderboard(table, verdicts, None)[:3])
    stored = json.loads(json.dumps([entry.to_json() for entry in board]))
    assert stored[0]["kid_change"]["mean"] == 0.1 and stored[1]["against_main"] is None
    assert not any({"single_relations", "lenient", "score"} & entry.keys() for entry in stored)


def test_a_method_differs_from_steering_only_after_correction() -> None:
    """Six prompts won, two images each, and none lost: p is 2 / 64, which holds alone and not among two comparisons."""
    steered = rows(*[None] * 12, *[WRONG] * 12)
    other = rows(*[WRONG] * 24)
    alone = against_main({MAIN: steered, PLAIN: other})[PLAIN]
    assert alone.differs and alone.p == alone.holm == pytest.approx(2 / 64)
    assert (alone.difference, alone.only_main, alone.only_this) == (-0.5, 12, 0) and alone.high < 0
    both = against_main({PLAIN: other, MAIN: steered, "x": other[::-1]})
    assert both["x"].holm == pytest.approx(4 / 64) and not both["x"].differs and list(both) == [PLAIN, "x"]
    assert against_main({MAIN: steered}) == {}


def test_several_relations_have_a_rate_of_their_own_on_the_board() -> None:
    verdicts = {MAIN: rows(None)}
    (alone,) = leaderboard([row(MAIN, 0.5)], verdicts, None)
    assert alone.single_relations is None and "single_relations" not in alone.to_json()
    (several,) = leaderboard([row(MAIN, 0.5, single_relations=rate(0.8), lenient=rate(0.6))], verdicts, None)
    assert alone.lenient is None and several.to_json()["lenient"]["rate"] == 0.6
    assert several.single_relations == rate(0.8) and several.to_json()["single_relations"]["rate"] == 0.8


def test_the_label_of_a_method_tells_whose_classifier_steers() -> None:
    """A further method is called as its section is, whatever steers it."""
    further = {"hard": {"kind": "classifier"}, "again": {"kind": "classifier", "classifier": "true-only"}}
    settings = {"classifiers": {"true-only": {"prompts": "true"}}, "methods": further}
    methods = methods_of(load_run_config("mini-sd", settings))
    labels = {name: method.label(name, rows(None)) for name, method in methods.items()}
    assert labels == {
        PLAIN: "plain",
        MAIN: "steered",
        "true-only": "steered by true-only",
        "hard": "hard",
        "again": "again",
    }


def test_the_figures_of_a_run_come_back_from_their_json() -> None:
    summary = run_summary(
        score=MeanScore(mean=0.5, low=0.4, high=0.6), single_relations=rate(0.7), lenient=rate(0.6), peak_bytes=7
    )
    best = replace(summary.plain, kind="best-of-n", label="best (of 4)", candidates=4)
    for one in (summary, replace(summary, methods={"best": best}), run_summary()):
        assert RunSummary.from_json(json.loads(json.dumps(one.to_json()))) == one
    given = replace(summary, classifiers={MAIN: ClassifierFigures(steered=summary.classifiers[MAIN].steered)})
    stored = json.loads(json.dumps(given.to_json()))
    assert set(stored["classifiers"][MAIN]) == {"steered"} and RunSummary.from_json(stored) == given


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
        row("plain", 0.2, by_relation={"above": rate(0.2, 3)}, by_prompt_group={"seen": rate(0.2, 3)}),
        row("other", 0.7, by_relation={"below": rate(0, 2), "above": rate(0.7, 3)}),
    ]
    above, below = breakdown(table, "by_relation")
    assert above == BreakdownLine(value="above", count=3, rates=(rate(0.2, 3), rate(0.7, 3)))
    assert below == BreakdownLine(value="below", count=0, rates=(None, rate(0, 2)))
    assert [line.value for line in breakdown(table, "by_prompt_group")] == ["seen"]


def test_only_the_papers_own_figures_are_quoted() -> None:
    assert [(f.architecture, f.plain, f.steered) for f in GENEVAL_POSITION] == [
        ("sd21", 0.07, 0.54),
        ("flux-dev", 0.20, 0.61),
    ]
    for name in ("sd21", "flux-dev"):
        beside = published_beside(load_run_config(name))
        assert [f.architecture for f in beside.figures] == [name] and "same backbone" in beside.note
    for name, overrides, said in (
        ("mini-sd", {}, "Not comparable with this run, which has other models, other prompts"),
        ("sd14", {}, "The same task on other backbones"),
        ("sd21", {"benchmark.tags": ["two_object"]}, "Not comparable with this run, which has other prompts"),
    ):
        beside = published_beside(load_run_config(name, overrides))
        assert len(beside.figures) == 2 and beside.note.startswith(said)


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
    report = build_comparison(run, BlindJudge())
    page = (run.paths.report / "report.html").read_text()
    stored = run.paths.report / "summary.json"
    assert all(path.is_file() for path in report_files(run.paths.report))
    figures = {key: value for key, value in read_json(stored).items() if key not in ("format", "place", "checksum")}
    assert figures == json.loads(json.dumps(report.to_json())) and read_summary(stored) == report.run
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
    assert page.count("<img") == 2 + len(report.failures.shown)
    assert [entry.name for entry in report.leaderboard] == ["centroid", MAIN, PLAIN]
    assert set(report.failures.kinds) == {PLAIN, MAIN, "centroid"} and len(report.published.figures) == 2
    assert [one.label for one in report.run.rows] == ["plain", "steered", "centroid"]


def test_a_summary_of_another_version_is_one_clear_line(run: Run) -> None:
    """One of an earlier version holds other figures under other names."""
    report = build_comparison(run, BlindJudge())
    path = run.paths.report / "summary.json"
    stored = report.to_json()
    for number, broken, said in (
        (None, stored, "was written by an earlier version"),
        (99, stored, r"was written by another version \(format 99\)"),
        (SUMMARY_FORMAT, {**stored, "plain": {"correct": {}}}, "holds no report's summary"),
        (None, [], "holds no report's summary"),
    ):
        write_json(path, broken) if number is None else write_versioned(path, number, broken)
        with pytest.raises(UserError, match=f"{path} {said}.*delete it") as caught:
            read_summary(path)
        assert "\n" not in str(caught.value)


def kid(mean: float, error: float = 0.004) -> KID:
    return KID(mean=mean, error=error, subset_size=10, subsets=2)


@pytest.mark.parametrize("quality", [None, {MAIN: Quality(kid=kid(0.02), kid_change=kid(0.0123))}])
@pytest.mark.parametrize("notes", [{}, {"centroid": "a handcrafted loss"}])
def test_pages_with_and_without_methods_and_quality(
    run: Run, quality: dict[str, Quality] | None, notes: dict[str, str]
) -> None:
    report = build_comparison(run, BlindJudge())
    shown = report.failures.shown
    verdicts = {method: read_judged(run.paths.verdicts(method) / FILE) for method in run.methods}
    first, *others = leaderboard(report.run.rows, verdicts, quality)
    pictures = {"pareto": Figure(), "failures": failure_pictures(run, verdicts, [item.item_id for item in shown])}
    values = {
        **method_values(run, report),
        "leaderboard": [replace(first, peak_bytes=3 * 2**29), *others],
        "quality": quality,
        "method_notes": notes,
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
    clip = {MAIN: ClipScore(mean=31.25, error=0.5)}
    rates = {"position": rate(0.5), "all": rate(0.25)}
    page = render_page({**values, "clip": clip, "official": {"plain": rates}}, {}, "scores.html")
    assert "31.25 ± 0.50" in page and "some-clip" in page and "<th>position</th><th>all</th>" in page and "0.25" in page


def test_a_benchmarks_page_opens_with_its_result_and_links_to_its_sections(run: Run) -> None:
    report = build_comparison(run, BlindJudge())
    page = (run.paths.report / "report.html").read_text(encoding="utf-8")
    plain, steered = report.run.plain.summary.correct.rate, report.run.classifiers[MAIN].steered.summary.correct.rate
    opening = page[page.index("<h1>") : page.index("<nav>")]
    assert f"<b>{plain:.2f}</b>" in opening and f"<b>{steered:.2f}</b>" in opening and " UTC on " in opening
    targets = re.findall(r'href="#(section-\d+)"', page)
    assert len(targets) == page.count("<h2 ") >= 3 and all(f'<h2 id="{target}">' in page for target in targets)
    assert page.count("<table") == page.count('<div class="scroll"><table') > 2
    assert page.index("<details>") < page.index("<pre>") and '<meta name="viewport"' in page


def test_the_commit_is_that_of_the_code_or_none(monkeypatch, tmp_path: Path) -> None:
    assert commit() is None or re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", commit())
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert commit() is None


def test_the_note_in_prefect_has_the_figures_and_links(tmp_path: Path) -> None:
    """It said where files lie, and nothing of what came out."""
    text = report_text(run_summary(correct=0.75), [tmp_path / "report.html"])
    assert "| steered | 0.75 (0.75–0.75) | 1.00 (1.00–1.00) | 0.0 | 1.00 |" in text
    assert f"- [report.html]({(tmp_path / 'report.html').as_uri()})" in text
