"""Significance between runs: the statistics by hand, matching, records old and new, the command, its page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.judged import MISSING, judged_image, wrong
from helpers.runs import run_of

from flows.cli import main
from l2s_core.config import MAIN, PLAIN
from l2s_core.errors import UserError
from l2s_core.evaluation.judged_image import FILE, JudgedImage, read_judged, write_judged
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.statistics.significance import (
    PairedDifference,
    bootstrap_interval,
    compare_all,
    compare_two,
    drawn_sign_flip_p,
    holm,
    match,
    sign_flip_p,
)
from l2s_core.report.significance_page import p_text, page_name
from l2s_core.storage import runs
from l2s_core.storage.files import write_json

SMALL = {"benchmark.prompts": 4, "benchmark.seeds": 2}
Succeeds = Callable[[int], bool]


def row(number: int, correct: bool, all_found: bool = True, **values: Any) -> JudgedImage:
    failures = [] if correct else [wrong(f"wrong {number}") if all_found else MISSING]
    return judged_image(number, *failures, **values)


def small_run(home: Path, **overrides: Any) -> Run:
    return run_of(home, **SMALL, **overrides)


def judge(run: Run, method: str, succeeds: Succeeds) -> None:
    images = [
        row(
            number,
            succeeds(number),
            gradients=0 if method == PLAIN else 10,
            prompt=item.prompt.text,
            seed=item.seed,
            prompt_group=item.prompt_group,
            asks_for=item.prompt.triplet.relation,
        )
        for number, item in enumerate(run.items)
    ]
    write_judged(run.paths.verdicts(method) / FILE, images)


def finished(run: Run, **methods: Succeeds) -> runs.RunRecord:
    """A finished run with these verdicts; `dual_bare` stands for dual-bare."""
    record = runs.begin(run.paths, "reproduce")
    for method, succeeds in methods.items():
        judge(run, method.replace("_", "-"), succeeds)
    return runs.end(run.home, record, runs.FINISHED)


def command(home: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["compare", *arguments, "--home", str(home)])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (0, 1, 1.0),
        (3, 3, 1.0),
        (0, 5, 2 / 32),
        (5, 0, 2 / 32),
        (1, 5, 2 * (1 + 6) / 64),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
    ],
)
def test_with_one_image_a_prompt_the_test_is_mcnemars(only_first: int, only_second: int, p: float) -> None:
    assert sign_flip_p([-1] * only_first + [1] * only_second + [0, 0]) == pytest.approx(p, rel=1e-12)


def test_images_of_one_prompt_count_together() -> None:
    """1 against 4 discordant prompts of 4 images each: as independent images p would be 0.012."""
    assert sign_flip_p([-4, 4, 4, 4, 4]) == pytest.approx(2 * (1 + 5) / 32)
    sums = [3, -1, 2, 4, -2, 1]
    totals = [abs(sum(s * v for s, v in zip(signs, sums, strict=True))) for signs in product((-1, 1), repeat=len(sums))]
    assert sign_flip_p(sums) == pytest.approx(sum(total >= 7 for total in totals) / 64)


def test_sums_that_are_no_whole_numbers_are_tested_alike() -> None:
    sums = [0.5, -0.25, 0.5, 1.0, -0.125, 0.75, 0.0]
    assert drawn_sign_flip_p(sums) == pytest.approx(sign_flip_p([round(8 * value) for value in sums]))
    many = [0.1 * (-1) ** (n % 3 == 0) for n in range(60)]  # 40 up, 20 down: more patterns than are drawn
    assert drawn_sign_flip_p(many) == pytest.approx(sign_flip_p([round(10 * value) for value in many]), abs=0.005)
    assert drawn_sign_flip_p(many) == drawn_sign_flip_p(many)
    assert drawn_sign_flip_p([]) == drawn_sign_flip_p([0.0, 0.3]) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx(
        [0.03, 0.06, 0.06]
    )  # 0.04 may not pass where the smaller 0.03 * 2 does not
    assert holm([0.2]) == [0.2] and holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_the_bootstrap_draws_whole_prompts() -> None:
    """Four images a prompt that always agree say no more than one; taken as independent they would."""
    one = [1.0] * 6 + [0.0] * 10 + [-1.0] * 4
    four = [value for value in one for _ in range(4)]
    clustered = bootstrap_interval(four, [number for number in range(20) for _ in range(4)])
    assert clustered == bootstrap_interval(one, range(20))
    low, high = bootstrap_interval(four, range(80))
    assert clustered[0] < low < 0.1 < high < clustered[1]
    assert clustered == bootstrap_interval(four[::-1], [number for number in range(20) for _ in range(4)][::-1])


def test_the_bootstrap_is_a_resampling_of_clusters() -> None:
    """Against the plain method, prompts of unequal size drawn one by one.

    Quantiles of 10000 resamples to two digits.
    """
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 5, size=40)
    clusters = np.repeat(np.arange(40), sizes)
    values = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=len(clusters))
    sums = np.bincount(clusters, weights=values)
    drawn = rng.integers(0, 40, size=(10_000, 40))
    plain = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), (0.025, 0.975))
    assert bootstrap_interval(values, clusters.tolist()) == pytest.approx(plain, abs=0.015)


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        values = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=100)
        low, high = bootstrap_interval(values, range(100), resamples=1000)
        hits += low <= 0.2 <= high
    assert 0.90 <= hits / 200 <= 0.985


def test_identical_runs_do_not_differ() -> None:
    rows = [row(n, n % 3 == 0) for n in range(12)]
    pair = compare_two("a", "b", rows, [replace(r) for r in rows])
    for difference in pair.outcomes.values():
        assert (difference.difference, difference.low, difference.high, difference.p) == (0.0, 0.0, 0.0, 1.0)
    assert (pair.gradients, pair.seconds, pair.left_out, pair.discordant) == (
        0.0,
        0.0,
        (0, 0),
        {"correct": [], "all_found": []},
    )


def test_a_difference_by_hand() -> None:
    """Twelve images of six prompts: 2 right in the first run alone, 5 in the second alone, 3 in both."""
    first = [row(n, n in (0, 1, 2, 3, 4)) for n in range(12)]
    second = [row(n, n in (2, 3, 4, 5, 6, 7, 8, 9), all_found=n != 0, gradients=10, seconds=0.75) for n in range(12)]
    pair = compare_two("a", "b", first, second)
    correct = pair.outcomes["correct"]
    assert (correct.count, correct.prompts, correct.only_first, correct.only_second) == (12, 6, 2, 5)
    assert (correct.first, correct.second, correct.difference) == pytest.approx((5 / 12, 8 / 12, 3 / 12))
    assert correct.p == pytest.approx(10 / 16)  # sums by prompt -2, 0, 1, 2, 2, 0: a total of 3 or more either way
    assert correct.low < 3 / 12 < correct.high
    assert (pair.gradients, pair.seconds) == (10.0, 0.25)
    assert [(d.prompt, d.seed, d.right, d.reason) for d in pair.discordant["correct"][:3]] == [
        ("prompt 0", 0, "first", "not found: dog"),
        ("prompt 0", 1, "first", "is below, not wrong 1"),
        ("prompt 2", 5, "second", "is below, not wrong 5"),
    ]
    assert [(d.seed, d.right) for d in pair.discordant["all_found"]] == [(0, "first")]
    assert {value: part["correct"].count for value, part in pair.parts["asks_for"].items()} == {"above": 6, "below": 6}
    assert pair.parts["asks_for"]["below"]["correct"].difference == pytest.approx(
        4 / 6 - 2 / 6
    )  # 2, 3, 6, 7 against 2, 3
    assert sum(part["correct"].only_second for part in pair.parts["prompt_group"].values()) == 5


def test_rows_are_matched_by_prompt_and_seed_in_any_order() -> None:
    first = [row(n, True) for n in range(6)]
    second = [row(n, n < 3) for n in reversed(range(6))]
    assert [(a.seed, b.seed) for a, b in match(first, second)] == [(n, n) for n in range(6)]
    assert match(first, [row(n, True, seed=n + 100) for n in range(6)]) == []
    with pytest.raises(UserError, match="two images of 'prompt 0' with seed 0"):
        match(first + first[:1], second)


def test_runs_that_share_a_part_are_compared_on_it() -> None:
    pair = compare_two("a", "b", [row(n, n < 6) for n in range(8)], [row(n, True) for n in range(4, 14)])
    assert (pair.shared, pair.left_out) == (4, (4, 6)) and pair.outcomes["correct"].only_second == 2
    with pytest.raises(
        UserError, match="a .8 images, as 'prompt 0' with seed 0. and b .3 images.* share 3 prompts and no image"
    ) as caught:
        compare_two("a", "b", [row(n, True) for n in range(8)], [row(n, True, seed=-n - 1) for n in (0, 2, 4)])
    assert "\n" not in str(caught.value)


def test_holm_corrects_over_all_pairs_of_runs() -> None:
    truth = {"a": lambda n: False, "b": lambda n: n < 6, "c": lambda n: n < 8}
    pairs = compare_all({label: [row(n, right(n)) for n in range(12)] for label, right in truth.items()})
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.holm["correct"] for pair in pairs] == pytest.approx([2 * 2 / 8, 3 * 2 / 16, 1])  # 3, 4 and 1 prompts
    assert [pair.holm["all_found"] for pair in pairs] == [1.0, 1.0, 1.0]


def test_a_soft_score_is_compared_where_every_image_has_one() -> None:
    """Four prompts of two images: 0.25 more on the second image of each, and on one prompt less."""
    first = [row(n, True, score=0.5) for n in range(8)]
    second = [row(n, True, score=(0.5, 0.75)[n % 2] if n != 5 else 0.375) for n in range(8)]
    (pair,) = compare_all({"a": first, "b": second})
    score = pair.outcomes["score"]
    assert (score.count, score.prompts, score.only_first, score.only_second) == (8, 4, 1, 3)
    assert (score.first, score.second, score.difference) == pytest.approx((0.5, 0.578125, 0.078125))
    assert (
        score.p == pair.holm["score"] == pytest.approx(4 / 16)
    )  # 5/8 or more either way: all four up, or all but the smallest
    assert score.low < score.difference < score.high and pair.outcomes["correct"].difference == 0
    assert pair.parts["asks_for"]["above"]["score"].count == 4 and "score" not in pair.discordant
    (pair,) = compare_all({"a": first, "b": [*second[1:], row(0, True)]})
    assert [*pair.outcomes] == ["correct", "all_found"]


def test_the_command_compares_soft_scores(tmp_path: Path) -> None:
    record = finished(small_run(tmp_path), plain=lambda n: n % 4 == 0, main=lambda n: n != 0)
    for method, scale in ((PLAIN, 0.5), (MAIN, 1.0)):
        path = small_run(tmp_path).paths.verdicts(method) / FILE
        scored = [
            replace(image, verdict=replace(image.verdict, score=scale * (0.5 + 0.5 * image.correct)))
            for image in read_judged(path)
        ]
        write_judged(path, scored)
    code, output = command(tmp_path, "mini-sd:plain", "mini-sd")
    assert code == 0 and "soft score" in output
    page = (tmp_path / "compare" / f"{record.run_id}.plain_vs_{record.run_id}.html").read_text(encoding="utf-8")
    assert "Difference: soft score" in page and "only second higher" in page


def test_a_record_tells_whose_verdicts_are_where(tmp_path: Path) -> None:
    """Of a classifier trained here, or of a given one, which makes the run train no other.

    With a method, or without.
    """
    own = small_run(tmp_path)
    given = small_run(tmp_path, given=tmp_path / "classifier")
    everyone = [PLAIN, MAIN, "dual-bare", "true-only-bare"]
    assert len({own.paths.verdicts(method) for method in everyone}) == 4
    few = {"few": {"kind": "best-of-n", "n": 2}}
    for run, methods in (
        (own, everyone),
        (given, [PLAIN, MAIN]),
        (small_run(tmp_path, methods=few), [*everyone, "few"]),
        (small_run(tmp_path, methods=few, given=tmp_path / "classifier"), [PLAIN, MAIN, "few"]),
    ):
        begun = runs.begin(run.paths, "any")
        (record,) = runs.find_runs(runs.list_runs(tmp_path), [begun.run_id])
        assert list(record.verdicts) == list(run.methods) == methods
        assert {method: tmp_path / folder for method, folder in record.verdicts.items()} == {
            method: run.paths.verdicts(method) for method in methods
        }
        assert set(record.verdicts.values()) <= set(record.outputs)  # 'l2s clean' leaves them alone


def test_the_command_compares_methods_and_writes_a_page_without_network(tmp_path: Path) -> None:
    record = finished(
        small_run(tmp_path), plain=lambda n: n % 4 == 0, main=lambda n: n != 0, dual_bare=lambda n: n % 2 == 0
    )
    code, output = command(tmp_path, "mini-sd:plain", record.run_id, f"{record.run_id}:dual-bare")
    assert code == 0, output
    assert (
        f"{record.run_id}:plain -> {record.run_id}" in output
        and "+0.71" in output
        and "p, Holm" in output
        and "+10.0" in output
    )
    page = tmp_path / "compare" / f"{record.run_id}.plain_vs_{record.run_id}_vs_{record.run_id}.dual-bare.html"
    assert output.strip().endswith(str(page))
    html = page.read_text(encoding="utf-8")
    assert re.findall(r'src="([^"]{5})', html) == ["data:"] and not re.search(
        r"https?:|<link|<script|@import|url\(", html
    )
    first = read_judged(small_run(tmp_path).paths.verdicts(PLAIN) / FILE)[0]
    assert first.prompt in html and str(first.seed) in html and "seen in training" in html
    again = tmp_path / "elsewhere" / "again.html"
    assert command(tmp_path, "mini-sd:plain", record.run_id, "mini-sd:dual-bare", "--out", str(again))[0] == 0
    assert again.read_text(encoding="utf-8") == html


def test_runs_of_which_one_has_more_images(tmp_path: Path) -> None:
    """Another classifier on half of the prompts, under another score of the judge.

    Said, in the terminal and on the page.
    """
    wide = finished(small_run(tmp_path), main=lambda n: True)
    few = finished(
        small_run(tmp_path, name="few", benchmark__prompts=2, benchmark__min_score=0.5), main=lambda n: n > 1
    )
    code, output = command(tmp_path, few.run_id, wide.run_id)
    page = (tmp_path / "compare" / f"{few.run_id}_vs_{wide.run_id}.html").read_text(encoding="utf-8")
    assert code == 0, output
    for text in (output, page):
        assert f"share 12 images; left out: 0 of {few.run_id}, 12 of {wide.run_id}" in text
        assert "Not judged alike" in text and "mini-seg above 0.5" in text


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((), "give two runs or more"),
        (("mini-sd",), "give two runs or more"),
        (("mini-ds:plain", "mini-sd"), "no run 'mini-ds'; did you mean 'mini-sd'"),
        (("mini-sd:dual-bear", "mini-sd"), "unknown method of mini-sd-{main}'dual-bear'; did you mean 'dual-bare'"),
        (("mini-sd:main", "mini-sd"), "is given twice"),
        (("mini-sd:dual-bare", "mini-sd"), "has no verdicts of dual-bare: missing file"),
        (("stopped", "mini-sd"), "has not finished (stopped); let it end, or give its command again"),
        (("points", "mini-sd"), "'points' names 2 runs; give the id of one: points-"),
        (("broken", "mini-sd"), "holds no verdicts, or those of an earlier version; run again with --rebuild"),
        (("other", "mini-sd"), "and no image of the same prompt and seed; compare runs of one benchmark.suite"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(tmp_path: Path, choices: tuple[str, ...], message: str) -> None:
    record = finished(small_run(tmp_path), plain=lambda n: False, main=lambda n: True)
    runs.end(tmp_path, runs.begin(small_run(tmp_path, name="stopped").paths, "reproduce"), runs.STOPPED)
    for epochs in (1, 2):
        finished(small_run(tmp_path, name="points", classifier__epochs=epochs), main=lambda n: True)
    finished(small_run(tmp_path, name="other", benchmark__suite="dev"), main=lambda n: True)
    broken = small_run(tmp_path, name="broken", steering__updates=1)
    finished(broken)
    write_json(broken.paths.verdicts(MAIN) / FILE, [{"prompt": "p"}])
    code, output = command(tmp_path, *choices)
    assert code == 2 and message.replace("{main}", record.run_id.removeprefix("mini-sd-") + " ") in output
    assert (
        len(output.strip().splitlines()) == 1 and output.startswith("error: ") and not (tmp_path / "compare").exists()
    )


def test_names_and_small_numbers() -> None:
    assert page_name(["a-1:plain", "a-1"]) == "a-1.plain_vs_a-1"
    many = [f"classifiers-{n:08d}" for n in range(20)]
    assert page_name(many).startswith("classifiers-00000000_and_19_more-") and page_name(many) != page_name(many[::-1])
    assert (p_text(0.0312), p_text(1e-9), p_text(1.0)) == ("0.0312", "< 0.0001", "1.0000")
    assert PairedDifference.of([(row(0, False), row(0, True))], "correct").p == 1.0
