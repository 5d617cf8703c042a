"""The suite of several relations form by form: its prompts, its configurations, and what a report says of each form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.judged import MISSING, WRONG, judged_image
from helpers.runs import run_of
from matplotlib.figure import Figure
from PIL import Image

from l2s_core.backbones.window import phrase_check
from l2s_core.config import MAIN, PLAIN, RunConfig, load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.forms import items_by_form
from l2s_core.evaluation.metrics.kid import KID, kid_change
from l2s_core.evaluation.metrics.quality import RunFeatures
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.evaluation.protocols.several_prompts import DIAGONAL, generate_several
from l2s_core.evaluation.protocols.verdict import CORRECT
from l2s_core.experiments.ablations import plan_ablations
from l2s_core.miniworld.world.sprites import OBJECTS
from l2s_core.prompts.chains import FORMS
from l2s_core.prompts.pairs import related_pairs
from l2s_core.report.forms import form_rows, plotted_methods, rates_by_relations, relations_figure
from l2s_core.report.grids import comparison_grid, stacked_grid
from l2s_core.report.page import render_page

CONFIGS = ("several", "several-flux")


def of_suite(name: str, suite: str, **settings: object) -> RunConfig:
    return load_run_config(name, {"benchmark.suite": suite, **{f"benchmark.{k}": v for k, v in settings.items()}})


def test_single_relations_are_the_prompts_of_pairs_of_the_same_suite() -> None:
    for suite in ("dev", "test"):
        own = benchmark_items(of_suite("several", suite, forms=["2+1"], prompts=100))
        pairs = benchmark_items(of_suite("mini-sd", suite, seeds=1, prompts={"seen": 150, "unseen": 52}))
        kinds = {item.prompt.text: item.prompt_group for item in pairs}
        known = [item for item in own if item.prompt.text in kinds]
        assert {item.prompt_group for item in own} == {"2-1-seen", "2-1-unseen"} and len(known) > 60
        assert all(item.prompt_group == f"2-1-{kinds[item.prompt.text]}" for item in known)
        other = benchmark_items(of_suite("mini-sd", {"dev": "test", "test": "dev"}[suite], seeds=1, prompts=24))
        assert not {item.prompt.text for item in own} & {item.prompt.text for item in other}
    novel = benchmark_items(of_suite("several", "test", forms=["2+1"], prompts=6, objects="novel"))
    assert {item.prompt_group for item in novel} == {"2-1-novel"}


@pytest.mark.parametrize("name", CONFIGS)
def test_suites_of_every_form_share_neither_prompts_nor_noise(name: str) -> None:
    dev, test = (benchmark_items(of_suite(name, suite, prompts=40)) for suite in ("dev", "test"))
    assert not {i.prompt.text for i in dev} & {i.prompt.text for i in test}
    assert not {i.seed for i in dev} & {i.seed for i in test} and len({i.item_id for i in test}) == len(test)
    by_form = items_by_form(test)
    assert {len(places) for places in by_form.values()} == {40}
    for form, places in by_form.items():
        assert {len(related_pairs(test[place].prompt)) for place in places} == {
            1 if form.name == "2+2" else form.relations
        }


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configurations_ask_for_every_form_that_the_models_window_holds(name: str) -> None:
    """Models with wider windows ship some day: this then says which forms, and scenes, their runs should have."""
    run = load_run_config(name)
    check = phrase_check(run.backbone)

    def fits(form: tuple[int, int]) -> bool:
        try:
            check(generate_several("test", form, 60, OBJECTS))
        except UserError:
            return False
        return True

    held = {form for form in (*FORMS, DIAGONAL) if fits(form)}
    assert set(run.benchmark.model_dump()["forms"]) == {f"{objects}+{relations}" for objects, relations in held}
    most = max(objects for objects, _ in held)
    assert len(run.data.model_dump()["counts"]) == most - 1 and run.data.states_diagonals


@pytest.mark.parametrize("name", CONFIGS)
def test_one_command_compares_how_relations_share_updates(name: str) -> None:
    (shared,) = plan_ablations(name, ["schedule"])
    ways = {point.overrides.get("steering.several", "joint") for point in shared.points}
    assert ways == {"joint", "open", "each", "cycle", "round-robin"} and all(
        "the same as" in why for why in shared.left_out.values()
    )
    own = load_run_config(name).benchmark.model_dump()
    assert shared.run.benchmark.suite == "dev" and shared.run.benchmark.model_dump()["forms"] == own["forms"]
    (pairs,) = plan_ablations("mini-sd", ["schedule"])
    assert len(pairs.left_out) == 6 and len(pairs.points) == 5


def small_run(home: Path):
    return run_of(home, load_run_config("several", {"benchmark.prompts": 6, "benchmark.forms": ["2+1", "4+2", "2+2"]}))


def test_a_form_has_the_figures_of_its_own_images(tmp_path: Path) -> None:
    """By hand: steered is right on all of one relation, on half of the others; plain on none."""
    run = small_run(tmp_path)

    def judged(method: str):
        for place, item in enumerate(run.items):
            right = method == MAIN and (place < 6 or place % 2)
            failures = () if right else (MISSING,) if place % 3 else (WRONG,)
            seconds = 2.0 if method == MAIN else 1.0
            yield judged_image(place, *failures, item_id=item.item_id, gradients=place, seconds=seconds)

    verdicts = {method: list(judged(method)) for method in run.methods}
    form = next(iter(items_by_form(run.items)))
    change = KID(mean=0.25, error=0.5, subset_size=3, subsets=1)
    rows = form_rows(run, verdicts, {form: {MAIN: change}})
    assert [row.name for row in rows] == ["2+1", "2+2", "4+2"] and [row.relations for row in rows] == [1, 2, 2]
    assert [row.methods[MAIN].correct.rate for row in rows] == [1.0, 0.5, 0.5]
    assert [row.methods[PLAIN].correct.hits for row in rows] == [0, 0, 0]
    assert rows[0].methods[MAIN].time_ratio == 2.0 and rows[0].methods[MAIN].gradients == 2.5
    assert [row.methods[MAIN].kid_change for row in rows] == [change, None, None]
    assert rows[0].methods[PLAIN].kinds["wrong relation"] == 2 and rows[0].methods[PLAIN].kinds["object missing"] == 4
    pooled = rates_by_relations(rows, MAIN)
    assert (pooled[1].hits, pooled[2].hits, pooled[2].count) == (6, 6, 12)
    assert plotted_methods(run) == [PLAIN, MAIN, "paper", "best-of-n"]
    (axes,) = relations_figure(rows, {PLAIN: "plain", MAIN: "steered"}).axes
    assert [line.get_text() for line in axes.get_legend().get_texts()] == ["plain", "steered"]

    values = {"forms": rows, "labels": {PLAIN: "plain", MAIN: "steered"}, "config": run.config, "right": CORRECT}
    uris = {"relations": Figure(), "forms": [Image.new("RGB", (9, 9))] * 3}
    page = render_page({**values, "quality": {MAIN: change}}, uris, "forms.html")
    assert page.count("<img") == 4 and page.count("+250.0 ± 500.0") == 1 and "4 objects, 2 relations" in page
    assert "<td>correct</td><td>0 → 6</td><td>0 → 3</td><td>0 → 3</td>" in page
    assert "<td>object missing</td><td>4 → 0</td>" in page and "in no relation" not in page
    assert "KID" not in render_page({**values, "quality": None}, uris, "forms.html").partition("<p class")[0]
    assert render_page({**values, "forms": ()}, {}, "forms.html").strip() == ""

    one = run_of(tmp_path, load_run_config("several", {"benchmark.prompts": 6, "benchmark.forms": ["4+2"]}))
    images = [judged_image(n, item_id=item.item_id) for n, item in enumerate(one.items)]
    assert form_rows(one, {PLAIN: images, MAIN: images}, {}) == ()


def test_the_kid_change_of_a_form_is_that_of_its_images_and_scenes_alone() -> None:
    rng = np.random.default_rng(0)
    plain, main, fresh = (rng.normal(size=(12, 5)) for _ in range(3))
    reference_MD = rng.normal(size=(48, 5))
    pixels = np.zeros((12, 2, 2, 3), np.uint8)
    features = RunFeatures(
        images={PLAIN: pixels, MAIN: pixels},
        by_method={PLAIN: plain, MAIN: main},
        reference_MD=reference_MD,
        fresh=pixels,
        fresh_ND=fresh,
    )
    places = [1, 4, 5, 9, 10]
    shown = [m for m in range(48) if m % 12 in places]
    expected = kid_change(plain[places], main[places], reference_MD[shown])
    assert features.kid_changes(places) == {MAIN: expected}
    assert features.kid_changes([1, 2]) == {} and set(features.quality()) == {"rendered scenes", PLAIN, MAIN}


def test_a_grid_has_plain_above_steered() -> None:
    images = [np.full((64, 64, 3), value, np.uint8) for value in (10, 200)]
    judged = [judged_image(n, prompt="a photo of a dog to the left of a cat above a teddy bear") for n in range(2)]
    sheet = np.asarray(
        stacked_grid({"plain": images[:1] * 2, "steered": images[1:] * 2}, {"plain": judged, "steered": judged})
    )
    dark, light = (((sheet == value).all(2).sum(1) > 200).nonzero()[0] for value in (10, 200))
    assert dark.max() < light.min() and len(dark) == len(light) == 128


def test_a_long_prompt_of_a_grid_does_not_run_into_its_neighbour() -> None:
    images = [np.full((64, 64, 3), value, np.uint8) for value in (10, 200)]
    prompt = "a photo of a dog to the left of a cat above a teddy bear, below a kite and left of an umbrella"
    judged = [judged_image(n, prompt=prompt) for n in range(2)]
    pair, alone = (
        np.asarray(comparison_grid({"plain": images[:count]}, {"plain": judged[:count]}, side=64)) for count in (2, 1)
    )
    assert (pair[:, : alone.shape[1]] == alone).all() and len(alone) > 64 + 5 * 13
