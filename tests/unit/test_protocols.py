"""The public protocols.

Golden cases of their scorers, their files, GenEval's folder, and own suites that share nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from l2s_core.config import load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.depth import PlacedDetection
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.protocols import geneval_folder, geneval_rules, spatial_prompts, spatial_rules
from l2s_core.evaluation.protocols.classes import COCO_CLASSES, GENEVAL_CLASSES
from l2s_core.evaluation.protocols.geneval_metadata import parse_record, position_prompt, read_metadata, record_row
from l2s_core.evaluation.protocols.geneval_prompts import generate_records
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.evaluation.protocols.relation_rule import judge_relations, kept_boxes
from l2s_core.evaluation.protocols.several_prompts import (
    OBJECT_LISTS,
    generate_several,
    parse_row,
    read_several,
    several_prompt,
    several_row,
    write_prompt,
)
from l2s_core.evaluation.protocols.suites import SUITES, noise_seed, triplet_suite
from l2s_core.hashing import digest
from l2s_core.prompts.chains import FORMS
from l2s_core.prompts.prompt import Prompt, parse_several
from l2s_core.relations import PLANAR, Triplet, relations_between

LISTED = Path(__file__).parent / "golden" / "objects.txt"
GOLDEN = json.loads((Path(__file__).parent / "golden" / "scorers.json").read_text(encoding="utf-8"))
TASKS = {"single_object": 40, "two_object": 60, "position": 60}
COLORED = {"colors": 390, "color_attr": 60}


def cases(name: str):
    return pytest.mark.parametrize("case", GOLDEN[name], ids=lambda case: case.get("case"))


def detections(rows) -> list[Detection]:
    return [Detection(name=name, box=tuple(box), score=score) for name, box, score in rows]


def lines(path: Path, rows) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


# Scorers


@cases("relations")
def test_relations_between_two_boxes(case) -> None:
    assert sorted(relations_between(case["a"], case["b"])) == case["held"]


@cases("geneval")
def test_geneval_golden_cases(case) -> None:
    record = parse_record(case["record"])
    found = detections(case["detections"])
    colors = {(name, tuple(box)): color for name, box, color in case.get("colors", [])}
    assert set(geneval_rules.colored_boxes(record, found)) == set(colors)
    verdict = geneval_rules.score_image(record, found, colors)
    assert (verdict.correct, verdict.all_found, verdict.reason) == (case["correct"], case["all_found"], case["reason"])
    failures = geneval_rules.clause_failures(record, found, colors)
    assert [failure is None for failure in failures] == case["clauses"]


def test_geneval_counts_at_most_16_of_a_class() -> None:
    include = [{"class": "bottle", "count": 16}]
    exclude = [{"class": "bottle", "count": 17}]
    row = {"tag": "counting", "prompt": "a photo of sixteen bottles", "include": include, "exclude": exclude}
    found = detections([["bottle", [i, 0, i + 1, 1], 0.95] for i in range(20)])
    assert geneval_rules.score_image(parse_record(row), found).correct
    assert len(kept_boxes(found, 0.9)["bottle"]) == 16


def test_geneval_colours_are_of_a_closed_set() -> None:
    row = {"tag": "colors", "prompt": "a photo of a red car", "include": [{"class": "car", "count": 1, "color": "red"}]}
    assert record_row(parse_record(row)) == row
    with pytest.raises(UserError, match=r"include\[0\].color is 'rd'; did you mean 'red'\? allowed: red, orange"):
        parse_record({**row, "include": [{"class": "car", "count": 1, "color": "rd"}]})


@cases("positions")
def test_spatial_position_golden_cases(case) -> None:
    score = spatial_rules.position_score(case["phrase"], case["a"], case["b"], tuple(case["size"]))
    assert score == pytest.approx(case["score"], abs=1e-12)


@pytest.mark.parametrize("case", GOLDEN["frames"], ids=lambda case: str(case["size"]))
def test_spatial_frames(case) -> None:
    assert spatial_rules.frame_size(tuple(case["size"])) == tuple(case["frame"])


@cases("spatial-3d")
def test_spatial_3d_golden_cases(case) -> None:
    """A find is a name, a box, a confidence and how near it is."""
    prompt = spatial_rules.parse_prompt(case["prompt"])
    found = [
        PlacedDetection(name=name, box=tuple(box), score=score, nearness=nearness)
        for name, box, score, nearness in case["detections"]
    ]
    verdict = spatial_rules.score_image(prompt, found, (100, 100))
    assert verdict.score == pytest.approx(case["score"]) and verdict.correct is case["correct"]
    assert verdict.all_found is case["all_found"]


@cases("spatial")
def test_spatial_image_golden_cases(case) -> None:
    prompt = spatial_rules.parse_prompt(case["prompt"])
    verdict = spatial_rules.score_image(prompt, detections(case["detections"]), (479, 479))
    positions = [failure.score for failure in verdict.failures if failure.score is not None]
    position = positions[0] if positions else float(verdict.correct)
    assert verdict.score == pytest.approx(case["score"]) and position == pytest.approx(case["position"])
    assert verdict.all_found is case["all_found"]


@cases("several")
def test_several_golden_cases(case) -> None:
    """Once a relation of one pair passed on what another pair showed.

    The relations found were gathered over all pairs.
    """
    prompt = several_prompt(case["prompt"], [Triplet(subject=s, relation=r, object=o) for s, r, o in case["triplets"]])
    verdict = judge_relations(prompt, detections(case["detections"]))
    assert (verdict.correct, verdict.all_found, verdict.reason) == (case["correct"], case["all_found"], case["reason"])
    assert [relation.holds for relation in verdict.relations] == case["pairs"]


@pytest.mark.parametrize("seed", range(5))
def test_a_pair_depends_on_its_own_objects_alone(seed) -> None:
    rng = np.random.default_rng(seed)
    prompt = write_prompt(["dog", "cat", "bird", "car", "boat"], ["left of", "above", "below"])
    boxes = [
        [name, [x, y, x + 20, y + 20], 0.9] for name in prompt.objects for x, y in [rng.integers(0, 200, 2).tolist()]
    ]
    verdict = judge_relations(prompt, detections(boxes))
    for number, relation in enumerate(verdict.relations):
        own = [row for row in boxes if row[0] in (relation.triplet.subject, relation.triplet.object)]
        assert judge_relations(prompt, detections(own)).relations[number] == relation


LAYOUTS = 5000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "strict", "lenient"), [((3, 2), 0.089, 0.110), ((5, 3), 0.024, 0.056)], ids=["3+2", "5+3"]
)
def test_the_lenient_score_of_random_layouts(form: tuple[int, int], strict: float, lenient: float) -> None:
    """What luck alone scores: squares of 0.3 of the image, centres anywhere in it, different relations of a prompt.

    Every verdict is held against the rule written out here.
    """
    rng = np.random.default_rng(0)
    names = ["dog", "cat", "bird", "car", "boat"][: form[0]]
    hits = np.zeros(2)
    for _ in range(LAYOUTS):
        relations = rng.permutation(PLANAR)[: form[1]].tolist()
        centres = {name: rng.random(2) * 512 for name in names}
        prompt = write_prompt(names, relations)
        boxes = [[name, [x - 76.8, y - 76.8, x + 76.8, y + 76.8], 0.9] for name, (x, y) in centres.items()]
        verdict = judge_relations(prompt, detections(boxes))
        own, seen = [], set()
        passed = []
        for triplet in prompt.triplets:
            x, y = centres[triplet.subject] - centres[triplet.object]
            reach = 0.5 * np.hypot(x, y) + 0.1 * 2 * 153.6
            held = {n for n, far in zip(PLANAR, (-x, x, -y, y), strict=True) if far > reach}
            seen |= held
            own.append(triplet.relation in held)
            passed.append(triplet.relation in seen)
        assert (verdict.correct, verdict.lenient) == (all(own), all(passed))
        hits += verdict.correct, verdict.lenient
    assert hits / LAYOUTS == pytest.approx([strict, lenient], abs=0.01)


def test_the_lenient_verdict_is_of_several_relations_and_needs_every_object() -> None:
    """A cat left of a bird passes for one that was to be left of a boat; the order of the relations counts."""
    cat, bird, boat = ["cat", [0, 0, 20, 20], 0.9], ["bird", [200, 0, 220, 20], 0.9], ["boat", [0, 200, 20, 220], 0.9]
    first = several_prompt(
        "a cat left of a bird and left of a boat",
        [Triplet(subject="cat", relation="left of", object=name) for name in ("bird", "boat")],
    )
    verdict = judge_relations(first, detections([cat, bird, boat]))
    assert verdict.lenient and not verdict.correct
    turned = replace(first, triplets=first.triplets[::-1])
    assert judge_relations(turned, detections([cat, bird, boat])).lenient is False
    assert judge_relations(first, detections([cat, bird])).lenient is False
    alone = several_prompt("a cat left of a bird", first.triplets[:1])
    assert judge_relations(alone, detections([cat, bird])).lenient is None


# Files


def test_metadata_lines_come_back_as_they_were(tmp_path) -> None:
    rows = [case["record"] for case in GOLDEN["geneval"]]
    path = lines(tmp_path / "evaluation_metadata.jsonl", rows)
    records = read_metadata(path)
    assert [record_row(record) for record in records] == rows
    assert [list(record_row(record)) for record in records] == [list(row) for row in rows]
    assert {record.tag for record in read_metadata(path, tags=["counting"])} == {"counting"}


PLACED = [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}]
GOOD = {"tag": "position", "include": PLACED, "prompt": "a photo of a dog left of a cat"}


def named(subject: str, relation: str, object_: str) -> dict:
    return {"subject": subject, "relation": relation, "object": object_}


def bad(**changes) -> dict:
    return {**GOOD, **changes}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{broken", "not JSON: '{broken'"),
        ("[1]", "the line is .1.; allowed: an object with tag, prompt, include"),
        ({"tag": "position", "prompt": "x"}, "has no 'include'"),
        (bad(tag="positon"), "unknown tag 'positon'; did you mean 'position'"),
        (bad(prompt=""), "prompt is ''"),
        (bad(extra=1), "unknown key of the line 'extra'"),
        (bad(include=[]), "include is empty"),
        (bad(include=[{"class": "dgo", "count": 1}]), "unknown class of include.0. 'dgo'; did you mean 'dog'"),
        (bad(include=[{"class": "mouse", "count": 1}]), "unknown class of include.0. 'mouse'"),
        (bad(include=[{"class": "dog", "count": 0}]), "include.0..count is 0; allowed: a whole number from 1 up"),
        (bad(include=[{"class": "dog", "count": True}]), "count is True"),
        (
            bad(include=[{"class": "dog", "count": 1, "colour": "red"}]),
            "unknown key of include.0. 'colour'; did you mean 'color'",
        ),
        (
            bad(include=[{"class": "dog", "count": 1, "position": ["left of", 0]}]),
            "points at clause 0; allowed: an earlier one",
        ),
        (
            bad(include=[PLACED[0], {"class": "dog", "count": 1, "position": ["beside", 0]}]),
            "the relation 'beside'; allowed: left of",
        ),
        (
            bad(include=[PLACED[0], {"class": "dog", "count": 1, "position": "left of"}]),
            "position is 'left of'; allowed: .relation",
        ),
        (
            bad(include=[PLACED[0], {"class": "cat", "count": 1, "position": ["left of", 0]}]),
            "compares 'cat' with the same class",
        ),
        (
            bad(exclude=[{"class": "dog", "count": 2, "position": ["left of", 0]}]),
            "unknown key of exclude.0. 'position'",
        ),
    ],
)
def test_bad_metadata_names_file_line_and_value(tmp_path, row, message) -> None:
    path = lines(tmp_path / "evaluation_metadata.jsonl", [GOOD, "", row])
    with pytest.raises(UserError, match=rf"evaluation_metadata.jsonl, line 3: .*{message}"):
        read_metadata(path)


def test_files_that_are_not_there_or_empty(tmp_path) -> None:
    with pytest.raises(UserError, match="missing file"):
        read_metadata(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="holds no lines"):
        read_several(lines(tmp_path / "empty.jsonl", [""]))
    with pytest.raises(UserError, match="no prompts with the tag counting"):
        read_metadata(lines(tmp_path / "m.jsonl", [GOOD]), tags=["counting"])
    with pytest.raises(UserError, match="unknown tag"):
        read_metadata(tmp_path / "m.jsonl", tags=["counts"])


def test_position_records_name_their_phrases() -> None:
    include = [{"class": "tv", "count": 1}, {"class": "tv remote", "count": 1, "position": ["left of", 0]}]
    record = parse_record(bad(prompt="a photo of a tv remote left of a tv", include=include))
    prompt = position_prompt(record)
    assert [prompt.text[a:b] for a, b in prompt.spans] == ["tv remote", "tv"]
    assert prompt.triplet == Triplet(subject="tv remote", relation="left of", object="tv")
    with pytest.raises(UserError, match="states 0 relations"):
        position_prompt(generate_records("two_object", "dev", 1)[0])


def test_a_name_inside_of_another_one_is_not_taken_for_it() -> None:
    """Steering read "cat" off "cat toy", and "dog" off "hot dog"."""

    def reworded(prompt: str, placed: str, other: str) -> Prompt:
        include = [{"class": other, "count": 1}, {"class": placed, "count": 1, "position": ["left of", 0]}]
        return position_prompt(parse_record({"tag": "position", "prompt": prompt, "include": include}))

    for prompt, placed, other in (
        ("a photo of a cat toy and a cat left of a bench", "cat", "bench"),
        ("a photo of a dog left of a hot dog beside a dog", "dog", "hot dog"),
    ):
        with pytest.raises(UserError, match="2 times; allowed: once"):
            reworded(prompt, placed, other)
    found = reworded("to the right of a hot dog there is a dog", "dog", "hot dog")
    assert [found.text[slice(*span)] for span in found.spans] == ["dog", "hot dog"]


def test_punctuation_is_no_part_of_a_name_in_a_2d_spatial_prompt() -> None:
    prompt = spatial_rules.parse_prompt("a dog, on the left of a cat.")
    assert (prompt.subject, prompt.object) == ("dog", "cat")
    assert [prompt.text[slice(*span)] for span in (prompt.subject_span, prompt.object_span)] == ["dog", "cat"]
    for text, message in (("a Dog near a dog", "relates 'Dog' to itself"), ("a dog; cat near a bird", "cannot read")):
        with pytest.raises(UserError, match=message):
            spatial_rules.parse_prompt(text)


def test_spatial_prompts_are_read(tmp_path) -> None:
    texts = [
        "a balloon on the top of a giraffe",
        "a rabbit next to a balloon",
        "a fish on side of a painting",
        "a airplane on the left of a turtle",
    ]
    prompts = spatial_rules.read_prompts(lines(tmp_path / "spatial.txt", texts))
    assert [p.text for p in prompts] == texts
    for p in prompts:
        assert p.text[slice(*p.subject_span)] == p.subject and p.text[slice(*p.object_span)] == p.object
    assert prompts[0].as_prompt().triplet.relation == "above" and prompts[1].as_prompt() is None
    for text in ("a dog beside a cat", "dog near cat", "a dog near a cat next to a bird"):
        with pytest.raises(UserError, match="spatial.txt, line 2: cannot read the prompt.*on the left of"):
            spatial_rules.read_prompts(lines(tmp_path / "spatial.txt", [texts[0], text]))


def test_several_prompts_come_back_and_both_forms_are_read(tmp_path) -> None:
    prompts = [generate_several("dev", form, 1)[0] for form in FORMS]
    assert read_several(lines(tmp_path / "p.jsonl", [several_row(p) for p in prompts])) == prompts
    include = [
        {"class": "cat", "count": 1},
        {"class": "dog", "count": 1, "position": ["to the left of", 0]},
        {"class": "owl", "count": 1},
        {"class": "cat", "count": 1, "position": ["above", 2]},
    ]
    row = {
        "tag": "position",
        "prompt": "a photo of a dog to the left of a cat above a owl",
        "include": include,
        "version": 2,
    }
    read = parse_row(row)
    assert read.triplets == (
        Triplet(subject="dog", relation="left of", object="cat"),
        Triplet(subject="cat", relation="above", object="owl"),
    )
    with pytest.raises(UserError, match="version is 1; allowed: 2"):
        parse_row({**row, "version": 1})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": 3}, "not a prompt"),
        ({"prompt": "a dog above a cat"}, "triplets is None"),
        ({"prompt": "a dog above a cat", "triplets": []}, "has no relations"),
        ({"prompt": "a dog above a cat", "triplets": [["dog", "above", "cat"]]}, "a triplet is .'dog'"),
        ({"prompt": "a dog by a cat", "triplets": [named("dog", "by", "cat")]}, "unknown relation 'by'"),
        ({"prompt": "a dog above a cat", "triplets": [named("dog", "above", "cow")]}, "names 'cow' 0 times"),
        ({"prompt": "a dog above a dog", "triplets": [named("dog", "above", "dog")]}, "relates 'dog' to itself"),
        (
            {
                "prompt": "a dog above a cat and a dog below a cow",
                "triplets": [named("dog", "above", "cat"), named("dog", "below", "cow")],
            },
            "names 'dog' 2 times",
        ),
        (
            {
                "prompt": "a mouse above a cat and a computer mouse below a cow",
                "triplets": [named("mouse", "above", "cat"), named("computer mouse", "below", "cow")],
            },
            "are one class",
        ),
    ],
)
def test_bad_several_prompts(tmp_path, row, message) -> None:
    with pytest.raises(UserError, match=f"p.jsonl, line 1: .*{message}"):
        read_several(lines(tmp_path / "p.jsonl", [row]))


# GenEval's folder

RECORDS = generate_records("position", "dev", 2)


def images(samples: int = 2) -> dict:
    return {
        (p, n): np.random.default_rng([p, n]).integers(0, 256, (8, 9, 3), dtype=np.uint8)
        for p in range(len(RECORDS))
        for n in range(samples)
    }


def result(root, key, correct: bool = True, **changes) -> dict:
    """One line as GenEval's scorer writes it: path, task, verdict, and two texts of JSON."""
    record = RECORDS[key[0]]
    boxes = {clause.name: [[0.0, 0.0, 5.0, 5.0, 0.75]] for clause in record.include}
    row = {
        "filename": str(geneval_folder.sample_path(root, key)),
        "tag": record.tag,
        "prompt": record.prompt,
        "correct": correct,
        "reason": "" if correct else "expected x",
        "metadata": json.dumps(record_row(record)),
        "details": json.dumps(boxes),
    }
    return {**row, **changes}


def test_an_export_can_be_interrupted_and_resumed(tmp_path) -> None:
    given = images()
    assert geneval_folder.export_folder(tmp_path, RECORDS, {(0, 1): given[0, 1]}) == 1
    with pytest.raises(UserError, match=r"lacks 00000/samples/0000.png \(3 of 4 images\)"):
        geneval_folder.check_folder(tmp_path, RECORDS, 2)
    assert geneval_folder.export_folder(tmp_path, RECORDS, given) == 3
    geneval_folder.check_folder(tmp_path, RECORDS, 2)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        f"0000{p}/{name}" for p in (0, 1) for name in ("metadata.jsonl", "samples/0000.png", "samples/0001.png")
    ]
    assert json.loads((tmp_path / "00001/metadata.jsonl").read_text()) == record_row(RECORDS[1])
    with pytest.raises(UserError, match="belongs to no sample"):
        geneval_folder.check_folder(tmp_path, RECORDS, 1)


def test_an_export_keeps_to_its_own_prompts_and_images(tmp_path) -> None:
    geneval_folder.export_folder(tmp_path, RECORDS, images())
    with pytest.raises(UserError, match="is of the prompt .* choose an empty folder"):
        geneval_folder.export_folder(tmp_path, RECORDS[::-1], {})
    with pytest.raises(UserError, match="0000.png holds another image"):
        geneval_folder.export_folder(tmp_path, RECORDS, {(0, 0): np.zeros((8, 9, 3), np.uint8)})
    with pytest.raises(UserError, match="belongs to no prompt"):
        geneval_folder.export_folder(tmp_path, RECORDS, {(2, 0): np.zeros((8, 9, 3), np.uint8)})
    geneval_folder.sample_path(tmp_path, (0, 0)).write_bytes(b"half a fi")
    with pytest.raises(UserError, match="cannot read .*0000.png"):
        geneval_folder.export_folder(tmp_path, RECORDS, images())


def test_a_failed_write_leaves_no_file(tmp_path) -> None:
    with pytest.raises(TypeError):
        geneval_folder.export_folder(tmp_path, RECORDS, {(0, 0): np.zeros((8, 9, 3), np.complex128)})
    assert not list(tmp_path.rglob("*.png"))


def test_results_come_back_by_prompt_and_sample(tmp_path) -> None:
    rows = [result("/elsewhere/images", key, correct=key != (1, 0)) for key in images()]
    rows[2]["details"] = json.dumps({RECORDS[1].include[0].name: [[0, 0, 5, 5, 0.5]]})
    del rows[3]["details"]
    read = geneval_folder.read_results(lines(tmp_path / "results.jsonl", rows[::-1]), RECORDS, 2)
    assert [(r.prompt_index, r.sample) for r in read] == list(images())
    assert [r.correct for r in read] == [True, True, False, True]
    assert [r.all_found for r in read] == [True, True, False, None]
    assert [r.reason for r in read] == ["correct", "correct", "expected x", "correct"]
    assert [r.relation for r in read] == [RECORDS[0].include[1].position.relation] * 2 + [
        RECORDS[1].include[1].position.relation
    ] * 2
    find = geneval_folder.OfficialFind(name=RECORDS[0].include[0].name, box=(0.0, 0.0, 5.0, 5.0), score=0.75)
    assert read[0].detections[0] == find
    assert json.loads(json.dumps(asdict(read[0])))["detections"][0]["box"] == [0.0, 0.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"filename": "0000', "line 4: not JSON"),
        ({"filename": "x.png"}, "line 4: not a result of GenEval"),
        (
            result("out", (1, 1), filename="out/00007/samples/0000.png"),
            "line 4: unknown file 'out/00007/samples/0000.png'; allowed: 00000/samples/0000.png to 0",
        ),
        (result("out", (1, 1), filename="other.png"), "line 4: unknown file 'other.png'"),
        (result("out", (1, 1), prompt="a photo of a yak"), "line 4: .* was judged for 'a photo of a yak'"),
        (result("out", (1, 1), correct="yes"), "line 4: not a result"),
        (result("out", (1, 1), details="{"), "line 4: damaged details '{'"),
        (result("out", (1, 0)), "two lines for prompt 1, sample 0"),
        ("", r"lacks 00001/samples/0001.png \(1 of 4 images\)"),
    ],
)
def test_bad_results(tmp_path, row, message) -> None:
    rows = [result("out", key) for key in list(images())[:3]]
    with pytest.raises(UserError, match=f"results.jsonl.*{message}"):
        geneval_folder.read_results(lines(tmp_path / "results.jsonl", [*rows, row]), RECORDS, 2)


# Own suites


def suites() -> dict[str, dict[str, list[str]]]:
    """Return the prompts of every own suite: name -> suite -> texts."""
    texts = {tag: {s: [r.prompt for r in generate_records(tag, s, n)] for s in SUITES} for tag, n in TASKS.items()}
    texts["spatial"] = {s: [p.text for p in spatial_prompts.generate_prompts(s, 70)] for s in SUITES}
    for form in FORMS:
        for kind, names in OBJECT_LISTS.items():
            texts[f"{form} {kind}"] = {s: [p.text for p in generate_several(s, form, 24, names)] for s in SUITES}
    return texts


def test_development_and_test_share_neither_prompts_nor_noise() -> None:
    texts = suites()
    dev, test = ({text for halves in texts.values() for text in halves[suite]} for suite in SUITES)
    assert dev & test == set()
    for halves in texts.values():
        for suite in SUITES:
            assert len(set(halves[suite])) == len(halves[suite])
    items = [
        (f"{suite}-{name}-{i:03d}", text)
        for name, halves in texts.items()
        for suite in SUITES
        for i, text in enumerate(halves[suite])
    ]
    seeds = [noise_seed(f"{item}-{k}", text) for item, text in items for k in range(2)]
    assert len(set(seeds)) == len(seeds)


def test_one_relation_is_in_one_suite_however_a_protocol_words_it() -> None:
    """One prompt was in two suites.

    GenEval's "a photo of a cat above a cup" was in `dev` there and in `test` among prompts with several relations.
    """
    position = {suite: {_triplet(record) for record in generate_records("position", suite, 12640)} for suite in SUITES}
    single = {suite: {prompt.triplets[0] for prompt in generate_several(suite, (2, 1), 400)} for suite in SUITES}
    assert (
        single["dev"] <= position["dev"]
        and single["test"] <= position["test"]
        and not position["dev"] & position["test"]
    )
    for suite in SUITES:
        assert {triplet_suite(triplet) for triplet in position[suite]} == {suite}


def _triplet(record) -> Triplet:
    target, placed = record.include
    return Triplet(subject=placed.name, relation=placed.position.relation, object=target.name)


def test_own_coloured_prompts_have_the_official_form() -> None:
    halves = {tag: {s: generate_records(tag, s, count) for s in SUITES} for tag, count in COLORED.items()}
    for tag, suites_of_tag in halves.items():
        dev, test = ({record.prompt for record in records} for records in suites_of_tag.values())
        assert not dev & test and len(dev) == len(test) == COLORED[tag]
        for record in (record for records in suites_of_tag.values() for record in records):
            assert parse_record(record_row(record)) == record
            names = [c.name for c in record.include]
            colors = [c.color for c in record.include]
            assert "person" not in names and len({*names, *colors}) == 2 * len(record.include)
            stated = " and ".join(
                f"{'an' if color[0] == 'o' else 'a'} {color} {name}" for color, name in zip(colors, names, strict=True)
            )
            assert record.prompt == f"a photo of {stated}"
    assert [halves[tag]["dev"][0].prompt for tag in COLORED] == [
        "a photo of an orange toaster",
        "a photo of a pink bus and a brown tie",
    ]


def test_no_pair_of_objects_is_in_both_suites_of_two_object() -> None:
    dev, test = (
        {frozenset(c.name for c in r.include) for r in generate_records("two_object", s, 1580)} for s in SUITES
    )
    assert not dev & test and len(dev | test) == len(list(combinations(COCO_CLASSES, 2)))


def test_suites_are_the_same_in_every_process() -> None:
    records = [generate_records(tag, "dev", 1)[0].prompt for tag in TASKS]
    assert records == ["a photo of a hot dog", "a photo of a zebra and a boat", "a photo of a scissors left of a fork"]
    assert spatial_prompts.generate_prompts("test", 1)[0].text == "a suitcase on the left of a cat"
    assert (
        generate_several("test", (4, 2), 1)[0].text
        == "a photo of a bowl to the left of a cat and a backpack above a umbrella"
    )
    assert digest(suites()) == "1f26dd26bcac0934"


def test_a_longer_suite_begins_with_the_shorter_one() -> None:
    assert generate_records("position", "test", 20)[:8] == generate_records("position", "test", 8)
    assert generate_several("test", (3, 2), 12)[:5] == generate_several("test", (3, 2), 5)


def test_own_geneval_prompts_have_the_official_form() -> None:
    assert len(GENEVAL_CLASSES) == len(set(GENEVAL_CLASSES)) == 80
    for tag, count in TASKS.items():
        for record in generate_records(tag, "dev", count):
            assert parse_record(record_row(record)) == record
            assert record.prompt.startswith("a photo of a") and "to the" not in record.prompt
    records = generate_records("position", "dev", 60)
    for relation in PLANAR:
        assert sum(r.include[1].position.relation == relation for r in records) == 15
    for record in records:
        prompt = position_prompt(record)
        assert [prompt.text[a:b] for a, b in prompt.spans] == [record.include[1].name, record.include[0].name]


def test_own_spatial_prompts_have_the_official_form() -> None:
    prompts = spatial_prompts.generate_prompts("test", 70)
    assert [sum(p.phrase == phrase for p in prompts) for phrase in spatial_rules.PHRASES_2D] == [10] * 7
    deep = spatial_prompts.generate_prompts("test", 30, ("in front of", "behind"))
    assert [sum(p.phrase == phrase for p in deep) for phrase in spatial_rules.PHRASES_3D] == [10] * 3
    assert all(p.is_3d and p.as_prompt().triplet.relation == spatial_rules.PHRASES[p.phrase] for p in deep)
    assert not {p.text for p in spatial_prompts.generate_prompts("dev", 30, ("in front of", "behind"))} & {
        p.text for p in deep
    }
    assert {p.subject for p in prompts} | {p.object for p in prompts} <= {*COCO_CLASSES, *spatial_rules.PEOPLE}


def test_several_sentences_and_their_spans() -> None:
    relations = ["left of", "above", "below"]
    names = ["dog", "teddy bear", "bear", "cup", "vase"]
    written = {form: write_prompt(names[: form[0]], relations[: form[1]]) for form in FORMS}
    assert {form: prompt.text for form, prompt in written.items()} == {
        (2, 1): "a photo of a dog to the left of a teddy bear",
        (3, 2): "a photo of a dog to the left of a teddy bear above a bear",
        (4, 2): "a photo of a dog to the left of a teddy bear and a bear above a cup",
        (4, 3): "a photo of a dog to the left of a teddy bear above a bear below a cup",
        (5, 3): "a photo of a dog to the left of a teddy bear above a bear and a cup below a vase",
    }
    for (objects, links), prompt in written.items():
        assert (
            prompt.objects == tuple(names[:objects]) and [prompt.text[a:b] for a, b in prompt.spans] == names[:objects]
        )
        assert [t.relation for t in prompt.triplets] == relations[:links]
    diagonal = write_prompt(["dog", "cup"], ["above", "left of"])
    assert diagonal.text == "a photo of a dog above and to the left of a cup"
    assert diagonal == parse_several(diagonal.text)  # the grammar reads what is written
    with pytest.raises(UserError, match=r"unknown form '\(5, 4\)'"):
        write_prompt(names, [*relations, "above"])


def test_several_lists_are_what_they_are_called() -> None:
    assert set(OBJECT_LISTS["common"]) <= set(COCO_CLASSES) and not set(OBJECT_LISTS["novel"]) & set(COCO_CLASSES)
    for form in FORMS:
        for prompt in generate_several("test", form, 8, OBJECT_LISTS["mixed"]):
            assert len(prompt.objects) == form[0] and len({t.relation for t in prompt.triplets}) == form[1]


def test_prompts_over_a_list_of_objects(tmp_path: Path) -> None:
    """The paper's lists have a name a line, without an end to the last one."""
    settings = {"benchmark": "several", "benchmark.forms": ["3+2", "5+3"], "benchmark.prompts": 8}
    run = load_run_config("sd21", {**settings, "benchmark.objects": str(LISTED)})
    items = benchmark_items(run)
    names = LISTED.read_text(encoding="utf-8").split("\n")
    assert len(items) == 16 and {name for item in items for name in item.objects} == set(names)
    assert {item.prompt_group for item in items} == {"3-2-listed", "5-3-listed"}
    assert [item.prompt for item in items[:8]] == generate_several("test", (3, 2), 8, names)

    own = tmp_path / "own.txt"
    for text, message in (
        ("dog\n\n42%\n", "own.txt, line 3: '42%' is no name of an object; allowed: words"),
        ("dog\ncat\ndog\n", "own.txt, line 3: 'dog' stands there twice"),
        ("dog\ncat\n", "over 2 names"),
        ("\n", "own.txt holds no lines"),
    ):
        own.write_text(text)
        with pytest.raises(UserError, match=message):
            benchmark_items(load_run_config("sd21", {**settings, "benchmark.objects": str(own)}))
    with pytest.raises(UserError, match="'comon'; did you mean 'common'. allowed: common, novel, mixed, or a text"):
        benchmark_items(load_run_config("sd21", {**settings, "benchmark.objects": "comon"}))
    own.write_text("dog\ncat\nunicorn\n")
    with pytest.raises(UserError, match="own.txt, line 3: unknown object 'unicorn'"):
        benchmark_items(load_run_config("mini-sd", {**settings, "benchmark.objects": str(own)}))


def test_asking_for_more_than_there_is() -> None:
    with pytest.raises(UserError, match="the dev suite of single_object has 40; allowed: 1 to 40"):
        generate_records("single_object", "dev", 41)
    with pytest.raises(UserError, match="unknown suite 'tset'; did you mean 'test'"):
        generate_records("position", "tset", 1)
    with pytest.raises(
        UserError, match="unknown tag 'counting';.* allowed: color_attr, colors, position, single_object, two_object"
    ):
        generate_records("counting", "dev", 1)
    with pytest.raises(UserError, match="only .* of form .2, 1. were found in the dev suite"):
        generate_several("dev", (2, 1), 100, ["dog", "cat", "cow"])
    with pytest.raises(UserError, match="over 2 names"):
        generate_several("dev", (3, 2), 1, ["dog", "cat"])


SIDES = {"left of", "right of"}
SIDE_DATA = {"source": "jsonl", "path": "x", "train": 1, "val": 1, "test": 1, "relations": sorted(SIDES)}


@pytest.mark.parametrize(
    "benchmark",
    [
        {"protocol": "geneval", "prompts": 12},
        {"protocol": "spatial", "prompts": 12},
        {"protocol": "several", "prompts": 12, "forms": ["2+1", "3+2"]},
    ],
    ids=lambda benchmark: benchmark["protocol"],
)
def test_data_of_two_relations_is_asked_for_two(benchmark: dict) -> None:
    """It could not run at all: every protocol but pairs asked for four. Suites keep their halves."""
    with pytest.raises(UserError, match="asks for above, below, .*set benchmark.relations to left of, right of"):
        load_run_config("sd21", {"data": SIDE_DATA, "benchmark": benchmark})
    asked = {}
    for suite in SUITES:
        chosen = {**benchmark, "suite": suite, "relations": sorted(SIDES)}
        items = benchmark_items(load_run_config("sd21", {"data": SIDE_DATA, "benchmark": chosen}))
        assert {t.relation for item in items for t in item.prompt.triplets} == SIDES
        asked[suite] = {item.prompt.text for item in items}
    assert not asked["dev"] & asked["test"]
    every = load_run_config("sd21", {"data": {**SIDE_DATA, "relations": list(PLANAR)}, "benchmark": benchmark})
    assert "relations" not in every.benchmark.model_dump()


def test_a_form_that_two_relations_cannot_fill_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"form 2\+2 needs 2 relations that go together.*leave the form out"):
        generate_several("dev", (2, 2), 4, relations=sorted(SIDES))
