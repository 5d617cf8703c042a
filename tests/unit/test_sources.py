"""GQA, ORM and JSONL in their own formats: what is chosen, what is skipped and named, the same subset every time."""

from __future__ import annotations

import json
import shutil
import struct
import sys
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import ijson
import numpy as np
import pytest
from PIL import EpsImagePlugin, ExifTags, Image, ImageOps
from pydantic import ValidationError

from l2s_core.backbones.load import phrase_check
from l2s_core.backbones.window import window_test
from l2s_core.config import load_run_config
from l2s_core.data import images, listing
from l2s_core.data.catalogue import Catalogue, Skips, load_catalogue, save_catalogue
from l2s_core.data.gqa import Gqa
from l2s_core.data.is_a import is_a_test
from l2s_core.data.listing import image_bytes
from l2s_core.data.miniworld import Miniworld
from l2s_core.data.read_source import ReadSource
from l2s_core.data.scenes import SPLITS, PromptForm, PromptKind, scene_prompt
from l2s_core.data.singular import singular_names
from l2s_core.data.streams import streamed
from l2s_core.errors import UserError
from l2s_core.evaluation.run import Run
from l2s_core.prompts.prompt import prompt_for
from l2s_core.registry import SOURCES
from l2s_core.relations import ATTRIBUTE, PLANAR, Triplet
from l2s_core.sizes import Size
from tasks.scenes import choose_scenes

NO_IMAGE = "not an image, or a damaged one (read are JPEG, PNG, WEBP, AVIF, TIFF, BMP, GIF, PPM)"
WORDS = {"left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below"}
PHOTOGRAPHS = {"protocol": "several", "prompts": 2}  # a benchmark whose prompts are no pairs of a closed set


def draw(path: Path, size: tuple[int, int] = (48, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)).save(path)


def graph(*objects: tuple[str, str, list[tuple[str, str]]]) -> dict:
    """objects: (id, name, [(relation, object id)])."""
    listed = {
        key: {
            "name": name,
            "x": 20,
            "y": 10,
            "w": 5,
            "h": 5,
            "attributes": ["white", "round"] if name == "cat" else [],
            "relations": [{"name": r, "object": o} for r, o in relations],
        }
        for key, name, relations in objects
    }
    return {"width": 48, "height": 32, "objects": listed}


PHOTOGRAPHS = {"protocol": "geneval", "prompts": 1}  # a benchmark that goes with sources that are read


@pytest.fixture
def gqa_folder(tmp_path: Path) -> Path:
    """16 good images, each with all four relations stated once or more, and one of every kind of bad entry."""
    graphs = {}
    for i in range(16):
        word = WORDS[PLANAR[i % 4]]
        second = [(WORDS[PLANAR[(i + 1) % 4]], "2")]
        graphs[f"good{i:02d}"] = graph(
            ("1", "dog", [(word, "2")]), ("2", "cat", []), ("3", "tree", second), ("4", "near", [("near", "1")])
        )
        draw(tmp_path / "images" / f"good{i:02d}.jpg")
    graphs["noimage"] = graph(("1", "dog", [("above", "2")]), ("2", "cat", []))
    graphs["dangling"] = graph(("1", "dog", [("above", "99")]), ("2", "cat", []))
    graphs["twice"] = graph(("1", "dog", [("above", "2")]), ("2", "cat", []), ("3", "cat", []))
    graphs["twin"] = graph(("1", "man", [("above", "2")]), ("2", "cat", []), ("3", "person", []))
    graphs["empty"] = {"width": 1, "height": 1}
    for name in ("dangling", "twice", "twin"):
        draw(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "train_sceneGraphs.json").write_text(json.dumps(graphs))
    return tmp_path


def settings(source: str, path: Path, **more) -> ReadSource:
    return SOURCES.load(source)(**{"path": path, "train": 2, "val": 1, "test": 1, **more})


def build_catalogue(source: ReadSource) -> Catalogue:
    return source.catalogue(lambda _triplet: True)


def test_gqa_chooses_by_image_one_relation_first_and_counts_what_is_bad(gqa_folder: Path) -> None:
    catalogue = build_catalogue(settings("gqa", gqa_folder))
    assert len(catalogue.entries) == 16 and not catalogue.short
    chosen = {entry.image for entry in catalogue.entries}
    assert len(chosen) == 16 and not chosen & {"images/twice.jpg", "images/dangling.jpg", "images/noimage.jpg"}
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        found = [e.triplet.relation for e in catalogue.entries if e.split == split]
        assert {r: found.count(r) for r in PLANAR} == dict.fromkeys(PLANAR, count)
    assert catalogue.skipped == {
        "image file missing": 1,
        "relation to an object that is not there": 1,
        "no objects in its scene graph": 1,
    }
    assert "noimage: image file missing" in catalogue.named and any(n.startswith("dangling/1") for n in catalogue.named)


def test_gqa_gives_as_many_scenes_with_an_attribute(gqa_folder: Path) -> None:
    config = settings("gqa", gqa_folder, attributes=["white", "metal"])
    catalogue = build_catalogue(config)
    assert {
        split: sum(e.split == split and e.triplet.relation == ATTRIBUTE for e in catalogue.entries) for split in SPLITS
    } == {"train": 2, "val": 1, "test": 1}
    described = [e for e in catalogue.entries if e.triplet.relation == ATTRIBUTE]
    assert {e.triplet for e in described} == {Triplet(subject="white", relation=ATTRIBUTE, object="cat")}
    assert "images/twice.jpg" not in {e.image for e in described} and all("-is-" in e.image_id for e in described)
    for relation in PLANAR:
        assert sum(e.triplet.relation == relation for e in catalogue.entries) == 4
    with pytest.raises(UserError, match="no usable scene for train is, val is, test is"):
        build_catalogue(settings("gqa", gqa_folder, attributes=["metal"]))


def test_depth_is_chosen_where_the_configuration_lists_it(gqa_folder: Path) -> None:
    file = gqa_folder / "train_sceneGraphs.json"
    graphs = json.loads(file.read_text())
    for number, (word, other) in enumerate([("behind", "2"), ("in front of", "2"), ("behind", "99")] * 3):
        graphs[f"good{number:02d}"]["objects"]["1"]["relations"].append({"name": word, "object": other})
    file.write_text(json.dumps(graphs))
    plain = build_catalogue(settings("gqa", gqa_folder))
    assert {entry.triplet.relation for entry in plain.entries} == set(PLANAR)
    assert plain.skipped["relation to an object that is not there"] == 1  # what is not asked for is not missed
    depth = load_run_config("sd21", {"data": "gqa-depth"}).data.relations
    assert depth == (*PLANAR, "in front of", "behind")
    deep = build_catalogue(settings("gqa", gqa_folder, train=1, val=1, test=1, relations=["behind", "above"]))
    stated = {e.triplet for e in deep.entries if e.triplet.relation == "behind"}
    assert stated == {Triplet(subject="dog", relation="behind", object="cat")}
    assert deep.skipped["relation to an object that is not there"] == 4


def test_diagonals_are_chosen_by_what_boxes_show(tmp_path: Path) -> None:
    """Of each relation a share shows a second one; a pair whose boxes do not show what is stated is none."""
    corners = {"left of": (-1, -1), "right of": (1, 1), "above": (1, -1), "below": (-1, 1)}
    sides = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
    graphs = {}
    for place in (corners, sides):
        for number in range(6):
            for relation, (x, y) in place.items():
                both = graph(("1", "dog", [(WORDS[relation], "2")]), ("2", "cat", []))
                both["objects"]["1"] |= {"x": 22 + 9 * x, "y": 12 + 9 * y}
                both["objects"]["2"] |= {"x": 22, "y": 12}
                graphs[f"{relation}-{x}{y}-{number}"] = both
    graphs["wrong"] = graph(("1", "dog", [("above", "2")]), ("2", "cat", []))  # one upon the other
    for name in graphs:
        draw(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "train_sceneGraphs.json").write_text(json.dumps(graphs))
    source = settings("gqa", tmp_path, train=4, diagonals=0.25)
    assert source.states_diagonals and not settings("gqa", tmp_path).states_diagonals
    catalogue = build_catalogue(source)
    train = [entry for entry in catalogue.entries if entry.split == "train"]
    assert len(train) == 16 and catalogue.skipped == {"its boxes do not show the relation": 1} and not catalogue.short
    for relation, (x, y) in corners.items():
        (diagonal,) = (entry for entry in train if entry.triplet.relation == relation and entry.also)
        both = {"right of" if x > 0 else "left of", "below" if y > 0 else "above"}
        assert {diagonal.triplet.relation, *(other.relation for other in diagonal.also)} == both
        assert sum(entry.triplet.relation == relation for entry in train) == 4
    save_catalogue(tmp_path / "catalogue.json", catalogue)
    assert load_catalogue(tmp_path / "catalogue.json") == catalogue
    scenes, _ = source.load_entries(train, 64)
    assert sum(len(scene.true) == 2 for scene in scenes) == 4
    plain = build_catalogue(settings("gqa", tmp_path, train=4))
    assert not any(entry.also for entry in plain.entries)
    with pytest.raises(ValidationError, match="data.relations lacks one of them"):
        settings("gqa", tmp_path, diagonals=0.25, relations=["left of", "above"])


def test_squashed_images_have_the_diagonals_that_they_show(tmp_path: Path) -> None:
    """An offset of 18 by 9 pixels in an image of 48 by 32 stands diagonally only where its width shrinks."""
    both = graph(("1", "dog", [("to the right of", "2")]), ("2", "cat", []))
    both["objects"]["1"] |= {"x": 30, "y": 19}
    both["objects"]["2"] |= {"x": 12, "y": 10}
    draw(tmp_path / "images" / "one.jpg")
    (tmp_path / "train_sceneGraphs.json").write_text(json.dumps({"one": both}))
    for resize, second in (("squash", ["below"]), ("pad", [])):
        (found,) = settings("gqa", tmp_path, diagonals=0.5, resize=resize).candidates(Skips())
        assert [other.relation for other in found.also] == second


def test_attributes_in_prompts_and_lines(tmp_path: Path) -> None:
    rows = good_orm_rows(tmp_path)
    texts = [
        "a photo of a white dog",
        "a photo of a white dog and a red cat",
        "a photo of a metal bench",
        "a photo of a metal boat and a white sheep",
    ]
    for i, text in enumerate([*texts, "a photo of a red dog", "a photo of a white dog and a white cat"], start=12):
        rows.append(orm_row(i, text, "yes"))
        draw(tmp_path / "img" / f"{i}.png")
    (tmp_path / "train.json").write_text(json.dumps(rows))
    catalogue = build_catalogue(settings("orm", tmp_path, train=1, attributes=["white", "metal"]))
    assert {(e.triplet.subject, e.triplet.object) for e in catalogue.entries if e.triplet.relation == ATTRIBUTE} <= {
        ("white", "dog"),
        ("metal", "bench"),
        ("metal", "boat"),
        ("white", "sheep"),
    }
    assert len(catalogue.entries) == 15 and catalogue.skipped == {"no relation of data.relations in its prompt": 2}
    lines = [
        {"image": f"img/{i}.png", "subject": "mug", "relation": PLANAR[i % 4], "object": "plate"} for i in range(12)
    ]
    lines += [
        {"image": f"img/{i}.png", "subject": "white" if i > 12 else "red", "relation": "is", "object": "mug"}
        for i in range(12, 16)
    ]
    (tmp_path / "scenes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    counts = {"train": 1, "val": 1, "test": 1}
    catalogue = build_catalogue(settings("jsonl", tmp_path, **counts, attributes=["white"]))
    assert catalogue.skipped == {"not one of the attributes": 1}
    assert sorted(e.image for e in catalogue.entries if e.triplet.relation == ATTRIBUTE) == [
        f"img/{i}.png" for i in (13, 14, 15)
    ]
    assert build_catalogue(settings("jsonl", tmp_path, **counts)).skipped == {"not one of data.relations": 4}


def test_the_subset_does_not_depend_on_the_order_of_the_file(gqa_folder: Path) -> None:
    file = gqa_folder / "train_sceneGraphs.json"
    first = build_catalogue(settings("gqa", gqa_folder, train=1))
    file.write_text(json.dumps(dict(reversed(json.loads(file.read_text()).items()))))
    assert build_catalogue(settings("gqa", gqa_folder, train=1)).entries == first.entries
    assert build_catalogue(settings("gqa", gqa_folder, train=1, seed=1)).entries != first.entries


def test_images_give_a_second_relation_only_inside_their_split(gqa_folder: Path) -> None:
    catalogue = build_catalogue(settings("gqa", gqa_folder, train=5, val=1, test=1))
    splits = {}
    for entry in catalogue.entries:
        assert splits.setdefault(entry.image, entry.split) == entry.split
    assert len(catalogue.entries) > len(splits) and len({e.image_id for e in catalogue.entries}) == len(
        catalogue.entries
    )


def test_wordnet_twins_are_no_two_objects(gqa_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wn

    lexicon = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE LexicalResource SYSTEM "http://globalwordnet.github.io/schemas/WN-LMF-1.1.dtd">
<LexicalResource xmlns:dc="https://globalwordnet.github.io/schemas/dc/">
 <Lexicon id="mini" label="mini" language="en" email="a@b.c" license="CC0" version="1">
  <LexicalEntry id="e1"><Lemma writtenForm="person" partOfSpeech="n"/><Sense id="s1" synset="mini-1"/></LexicalEntry>
  <LexicalEntry id="e2"><Lemma writtenForm="adult" partOfSpeech="n"/><Sense id="s2" synset="mini-2"/></LexicalEntry>
  <LexicalEntry id="e3"><Lemma writtenForm="man" partOfSpeech="n"/><Sense id="s3" synset="mini-3"/></LexicalEntry>
  <LexicalEntry id="e5"><Lemma writtenForm="boy" partOfSpeech="n"/><Sense id="s5" synset="mini-5"/></LexicalEntry>
  <LexicalEntry id="e6"><Lemma writtenForm="human" partOfSpeech="n"/><Sense id="s6" synset="mini-1"/></LexicalEntry>
  <LexicalEntry id="e4"><Lemma writtenForm="cat" partOfSpeech="n"/><Sense id="s4" synset="mini-4"/></LexicalEntry>
  <Synset id="mini-1" ili="" partOfSpeech="n"/>
  <Synset id="mini-2" ili="" partOfSpeech="n"><SynsetRelation relType="hypernym" target="mini-1"/></Synset>
  <Synset id="mini-3" ili="" partOfSpeech="n"><SynsetRelation relType="hypernym" target="mini-2"/></Synset>
  <Synset id="mini-5" ili="" partOfSpeech="n"><SynsetRelation relType="hypernym" target="mini-3"/></Synset>
  <Synset id="mini-4" ili="" partOfSpeech="n"/>
 </Lexicon>
</LexicalResource>"""
    monkeypatch.setattr(wn.config, "data_directory", tmp_path / "wn")
    (tmp_path / "mini.xml").write_text(lexicon)
    wn.add(tmp_path / "mini.xml", progress_handler=None)
    plain = {e.image for e in build_catalogue(settings("gqa", gqa_folder, train=3)).entries}
    without = {e.image for e in build_catalogue(settings("gqa", gqa_folder, train=3, is_a="mini:1")).entries}
    assert "images/twin.jpg" in plain and "images/twin.jpg" not in without
    for levels, left_out in ((1, False), (2, True)):
        source = settings("gqa", gqa_folder, train=3, is_a="mini:1", is_a_levels=levels)
        assert ("images/twin.jpg" in {e.image for e in build_catalogue(source).entries}) is not left_out
    names = ("human", "man", "boy", "cat")  # 0, 2 and 3 levels from a person, and none
    for levels, told in ((None, [True, True, True, False]), (2, [False, True, False, False])):
        is_a = is_a_test("mini:1", levels)
        assert [is_a(name, "person") for name in names] == [is_a("person", name) for name in names] == told
    with pytest.raises(UserError, match="python -m wn download oewn:2024"):
        build_catalogue(settings("gqa", gqa_folder, is_a="oewn:2024"))


def test_objects_of_one_name_stay_where_they_are_told_to(gqa_folder: Path) -> None:
    """As in the paper: one of two cats is "a cat" then, and only a pair of one name is no pair."""
    file = gqa_folder / "train_sceneGraphs.json"
    graphs = json.loads(file.read_text())
    graphs["self"] = graph(("1", "dog", [("above", "2")]), ("2", "dog", []))
    draw(gqa_folder / "images" / "self.jpg")
    file.write_text(json.dumps(graphs))
    twice, alone = {"images/twice.jpg"}, {"images/self.jpg"}
    for setting, there in (("left-out", set()), ("kept", twice)):
        source = settings("gqa", gqa_folder, train=3, attributes=["white"], repeated=setting)
        entries = build_catalogue(source).entries
        assert {e.image for e in entries} & (twice | alone) == there
        assert {e.triplet.subject for e in entries if e.image in twice} <= {"dog", "white"}
    assert "repeated" not in settings("gqa", gqa_folder).model_dump()


def orm_row(i: int, prompt: str, answer: str) -> dict:
    question = (
        f"<image>\nThis image is generated by a prompt: {prompt}. "
        "Does this image accurately represent the prompt? Please answer yes or no."
    )
    return {
        "id": i,
        "image": f"img/{i}.png",
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
    }


def good_orm_rows(folder: Path) -> list[dict]:
    """Twelve usable rows, and their images in `folder`."""
    for i in range(12):
        draw(folder / "img" / f"{i}.png")
    return [orm_row(i, f"a photo of a hot dog {PLANAR[i % 4]} a cat", "yes") for i in range(12)]


def test_orm_takes_positive_answers_and_the_relation_of_the_prompt(tmp_path: Path) -> None:
    rows = good_orm_rows(tmp_path)
    row = orm_row
    rows += [
        row(20, "a photo of a dog above a cat", "no"),
        row(21, "a photo of a red dog", "yes"),
        row(22, "a photo of a dog above a cat", "Yes"),
    ]
    (tmp_path / "train.json").write_text(json.dumps([*rows, {"image": "x"}]))
    catalogue = build_catalogue(settings("orm", tmp_path, train=1))
    assert len(catalogue.entries) == 12 and {e.triplet.subject for e in catalogue.entries} == {"hot dog"}
    assert catalogue.skipped == {
        "answered no": 1,
        "no relation of data.relations in its prompt": 1,
        "image file missing": 1,
        "not a question and an answer about an image": 1,
    }


def test_sources_are_read_beside_each_other_each_with_its_own_counts(gqa_folder: Path) -> None:
    orm_folder = gqa_folder / "orm"
    rows = good_orm_rows(orm_folder)
    (orm_folder / "train.json").write_text(json.dumps(rows))
    (orm_folder / "img" / "0.png").write_text("no image")
    alone = settings("gqa", gqa_folder)
    both = settings("gqa", gqa_folder, beside=[settings("orm", orm_folder, train=1)])
    catalogue = build_catalogue(both)
    of_gqa, of_orm = ([e for e in catalogue.entries if e.part == part] for part in (0, 1))
    assert {(e.image, e.split) for e in of_gqa} == {(e.image, e.split) for e in build_catalogue(alone).entries}
    assert len(of_orm) == 12 and len({e.image_id for e in catalogue.entries}) == 16 + 12
    assert [e.split for e in catalogue.entries] == sorted(
        (e.split for e in catalogue.entries), key=("train", "val", "test").index
    )
    parts = [e.part for e in catalogue.entries if e.split == "train"]
    assert parts != sorted(parts)  # mixed, not one source after the other
    scenes, skips = both.load_entries(catalogue.entries, 16)
    assert len(scenes) == 27 and skips.named == ["img/0.png: " + NO_IMAGE]
    assert len(both.fingerprint()) == 4  # annotations and images of each
    with pytest.raises(ValueError, match="miniworld stands alone"):
        settings("gqa", gqa_folder, beside=[Miniworld(train=1, val=1, test=1)])
    with pytest.raises(ValueError, match="no beside of its own"):
        settings("gqa", gqa_folder, beside=[both])


def test_own_images_bad_lines_and_bad_files_are_counted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    for i in range(12):
        draw(tmp_path / f"{i}.png", (40, 30))
        lines.append(json.dumps({"image": f"{i}.png", "subject": "mug", "relation": PLANAR[i % 4], "object": "plate"}))
    lines += ["not json", json.dumps({"image": "0.png", "subject": "a", "relation": "beside", "object": "b"})]
    lines += [json.dumps({"image": "gone.png", "subject": "a", "relation": "above", "object": "b"})]
    (tmp_path / "scenes.jsonl").write_text("\n".join(lines))
    config = settings("jsonl", tmp_path, train=1)
    catalogue = build_catalogue(config)
    assert catalogue.skipped == {
        "not an object with image, subject, relation, object": 1,
        "not one of data.relations": 1,
        "image file missing": 1,
    }
    assert "scenes.jsonl:13" in catalogue.named[0]
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "0.png").write_text("no image")
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    draw(tmp_path / "2.png", (400, 300))
    monkeypatch.setattr(images, "MAX_PIXELS", 40 * 30)
    scenes, skips = config.load_entries(catalogue.entries, 16)
    assert len(scenes) == 9 and all(s.image.shape == (16, 16, 3) and s.image.dtype == np.uint8 for s in scenes)
    assert skips.counts == {
        NO_IMAGE: 2,
        "image too large to decode safely (more than 1200 pixels)": 1,
    }
    assert {name.split(":")[0] for name in skips.named} == {"0.png", "1.png", "2.png"}


@pytest.mark.parametrize(
    "size", [9_000, 20_000]
)  # above the project's limit, and above Pillow's, which opens no such file
def test_a_small_file_of_many_pixels_is_too_large(tmp_path: Path, size: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 1, 0, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )
    with pytest.raises(UserError, match="^image too large to decode safely"):
        images.read_image(tmp_path / "bomb.png", 16)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "grey.pgm"])
def test_grey_of_16_bits_keeps_its_shades(tmp_path: Path, name: str) -> None:
    """They were all white but for the darkest 255 of 65536."""
    values = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values if name != "grey.pgm" else values.astype(np.int32)).save(tmp_path / name)
    assert np.array_equal(images.read_image(tmp_path / name, 16), np.repeat(values[..., None] // 256, 3, axis=2))


def one_relation(x: int, width: int | str) -> dict:
    """A dog of `width` at `x` to the left of a cat in the middle of an image of 640 x 480."""
    dog = {
        "name": "dog",
        "x": x,
        "y": 200,
        "w": width,
        "h": 65,
        "relations": [{"name": "to the left of", "object": "2"}],
    }
    cat = {"name": "cat", "x": 300, "y": 200, "w": 60, "h": 60, "relations": []}
    return {"width": 640, "height": 480, "objects": {"1": dog, "2": cat}}


@pytest.mark.parametrize(
    ("resize", "size", "used"),
    [
        ("crop", 64, {"inside", "half"}),
        ("crop", (48, 64), {"inside", "half", "cut-off"}),
        ("squash", 64, {"inside", "half", "cut-off"}),
        ("pad", 64, {"inside", "half", "cut-off"}),
    ],
)
def test_objects_that_are_not_shown_are_skipped(tmp_path: Path, resize: str, size: Size, used: set[str]) -> None:
    """The central square of 640 x 480 held no pixel of a dog at 5 to 70, and its maps were labelled all the same."""
    graphs = {
        "inside": one_relation(100, 65),
        "half": one_relation(50, 60),
        "cut-off": one_relation(5, 65),
        "empty": one_relation(100, 0),
        "beside": one_relation(-90, 80),
        "no-number": one_relation(100, "wide"),
    }
    for name in graphs:
        draw(tmp_path / "images" / f"{name}.jpg", (64, 48))
    (tmp_path / "sceneGraphs.json").write_text(json.dumps(graphs))
    skips = Skips()
    source = settings("gqa", tmp_path, resize=resize)
    assert {Path(candidate.image).stem for candidate in source.candidates_for(size, skips)} == used
    assert skips.counts == {"an object's box is empty, or outside of the part that is shown": len(graphs) - len(used)}


def test_names_that_differ_by_capitals_alone_are_one(tmp_path: Path) -> None:
    """Steering by "Dog" and "dog" reads two phrases of what a viewer sees as one."""
    graphs = {
        "capitals": graph(("1", "Dog", [("above", "2")]), ("2", "dog", []), ("3", "cat", [("above", "1")])),
        "two": graph(("1", "dog", [("above", "2")]), ("2", "cat", [])),
    }
    for name in graphs:
        draw(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "sceneGraphs.json").write_text(json.dumps(graphs))
    found = list(settings("gqa", tmp_path).candidates(Skips()))
    assert [candidate.image for candidate in found] == ["images/two.jpg"]
    rows = good_orm_rows(tmp_path / "orm")
    more = ("a photo of a dog left of a dog", "a photo of a Dog left of a dog")
    rows += [{**orm_row(0, text, "yes"), "image": rows[0]["image"]} for text in more]
    (tmp_path / "orm" / "train.json").write_text(json.dumps(rows))
    assert build_catalogue(settings("orm", tmp_path / "orm", train=1)).skipped == {
        "subject and object must be two names": len(more)
    }


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "key"])
def test_what_is_transparent_shows_white(tmp_path: Path, mode: str) -> None:
    """The colour that a transparent background hides was shown."""
    image = Image.new("RGBA", (16, 16), (200, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 16))
    if mode == "key":  # a colour of an RGB file that counts as transparent
        image.convert("RGB").save(tmp_path / "a.png", transparency=(200, 0, 0))
    else:
        image.convert(mode).save(tmp_path / "a.png")
    found = images.read_image(tmp_path / "a.png", 16)
    assert (found[:, :8] == 0).all() and (found[:, 8:] == 255).all()


@pytest.mark.parametrize(("kind", "white"), [("int32", 255), ("int32", 65535), ("int32", 2**24 - 1), ("float32", 1.0)])
def test_tiffs_of_whole_numbers_and_fractions_keep_their_shades(tmp_path: Path, kind: str, white: float) -> None:
    """They came out black."""
    shades = np.linspace(0, white, 16 * 16).astype(kind).reshape(16, 16)
    Image.fromarray(shades).save(tmp_path / "a.tif")
    found = images.read_image(tmp_path / "a.tif", 16)[..., 0].ravel()
    assert np.abs(found.astype(int) - np.linspace(0, 255, 256)).max() <= 1


def orientation_block(entries: list[tuple[int, int, int, bytes]], values: bytes = b"") -> bytes:
    """An EXIF block, little-endian, of (tag, type, count, value or offset); `values` begin at byte 62."""
    listed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4)
    return b"Exif\0\0" + head.ljust(62, b"\0") + values


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    draw(tmp_path / "a.png", (32, 24))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    with Image.open(tmp_path / "a.png") as image:
        image.save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        upright = ImageOps.exif_transpose(image)
    assert np.array_equal(images.read_image(tmp_path / "a.jpg", 16), images.cropped(upright, (16, 16)))
    assert images.image_size(tmp_path / "a.jpg") == upright.size


def test_a_photograph_with_a_damaged_exif_block_is_read(tmp_path: Path) -> None:
    """One such file ended the whole run with struct.error, and its name was not said."""
    turned = (274, 3, 1, struct.pack("<HH", 6, 0))
    resolution = (282, 5, 1, struct.pack("<I", 62))  # a fraction of (-1, 0), whose type has no negative numbers
    damaged = [
        orientation_block([turned, resolution], struct.pack("<ii", -1, 0)),
        orientation_block([(274, 2, 9, b"abcd")]),
        orientation_block([(274, 5, 2**31, bytes(4))]),
        b"Exif\0\0II*\0\xff\xff\xff\xff",
    ]
    random = np.random.default_rng(0)
    for _ in range(200):
        block = bytearray(damaged[0])
        block[random.integers(6, len(block))] = random.integers(256)
        damaged.append(bytes(block))
    draw(tmp_path / "a.png", (24, 16))
    with Image.open(tmp_path / "a.png") as image:
        for block in damaged:
            image.save(tmp_path / "a.jpg", exif=block)
            assert images.read_image(tmp_path / "a.jpg", 16).shape == (16, 16, 3)


@pytest.mark.parametrize("name", ["photo.jpg", "photo.eps"])
def test_only_formats_of_photographs_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An EPS under any name started Ghostscript."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_args, **_more: pytest.fail("Ghostscript is started"))
    Image.new("RGB", (16, 16)).save(tmp_path / name, format="EPS")
    with pytest.raises(UserError, match="^not an image"):
        images.read_image(tmp_path / name, 16)


def test_a_malformed_entry_of_gqa_is_counted_and_leaves_the_rest(gqa_folder: Path) -> None:
    """Each ended the whole source with a traceback."""
    file = gqa_folder / "train_sceneGraphs.json"
    graphs = json.loads(file.read_text())
    cat = {"name": "cat"}
    above = [{"name": "above", "object": "2"}]
    bad = {
        "words": {"name": "dog", "relations": ["above"]},
        "number": {"name": "dog", "relations": 5},
        "listed": {"name": ["dog"], "relations": above},
        "colour": {"name": "dog", "attributes": 5},
        "nothing": None,
    }
    for name, entry in bad.items():
        graphs[name] = {"objects": {"1": entry, "2": cat}}
        draw(gqa_folder / "images" / f"{name}.jpg")
    graphs["x" * 300] = graphs["good00"]
    file.write_text(json.dumps(graphs))
    catalogue = build_catalogue(settings("gqa", gqa_folder, attributes=["white"]))
    assert len(catalogue.entries) == 20 and not {Path(entry.image).stem for entry in catalogue.entries} & bad.keys()
    assert catalogue.skipped == {
        "malformed relations": 2,
        "malformed attributes": 1,
        "object without a name": 2,
        "image file missing": 2,
        "relation to an object that is not there": 1,
        "no objects in its scene graph": 1,
    }
    assert {"words/1: malformed relations", "listed/1: object without a name"} <= set(catalogue.named)


def test_a_malformed_entry_of_orm_is_counted_and_leaves_the_rest(tmp_path: Path) -> None:
    rows = good_orm_rows(tmp_path)
    text = "a photo of a dog above a cat"
    rows += [{**orm_row(0, text, "yes"), "image": image} for image in (None, ["img/0.png"], 5)]
    rows += [orm_row(0, text, answer) for answer in (None, ["yes"], 5)] + [
        {**orm_row(0, text, "yes"), "image": "x" * 300}
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    catalogue = build_catalogue(settings("orm", tmp_path, train=1))
    assert len(catalogue.entries) == 12
    assert catalogue.skipped == {"not a question and an answer about an image": 6, "image file missing": 1}


def test_a_malformed_line_is_counted_and_leaves_the_rest(tmp_path: Path) -> None:
    lines = []
    for i in range(12):
        draw(tmp_path / f"{i}.png")
        lines.append({"image": f"{i}.png", "subject": "mug", "relation": PLANAR[i % 4], "object": "plate"})
    bad = [{**lines[0], key: value} for key in ("image", "subject", "object") for value in (None, ["dog"], 5)]
    bad += [{**lines[0], "subject": "half a \ud83d"}, {**lines[0], "image": "x" * 300}]
    (tmp_path / "scenes.jsonl").write_text("\n".join([*map(json.dumps, [*lines, *bad]), "[" * 100_000]))
    catalogue = build_catalogue(settings("jsonl", tmp_path, train=1))
    assert {(e.triplet.subject, e.triplet.object) for e in catalogue.entries} == {("mug", "plate")}
    assert catalogue.skipped == {"not an object with image, subject, relation, object": 11, "image file missing": 1}


def test_mistakes_in_data_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        build_catalogue_of(settings("gqa", tmp_path / "none"))
    with pytest.raises(UserError, match=r"holds no \*sceneGraphs.json"):
        build_catalogue_of(settings("gqa", tmp_path))
    (tmp_path / "scenes.jsonl").write_text("")
    with pytest.raises(UserError, match="no usable scene for train left of.*0 usable images"):
        build_catalogue_of(settings("jsonl", tmp_path))
    (tmp_path / "a_sceneGraphs.json").write_text('{"1": {"objects": ')
    with pytest.raises(UserError, match="is not whole JSON"):
        build_catalogue_of(settings("gqa", tmp_path))


def test_added_and_replaced_images_give_new_addresses_and_a_copy_none(gqa_folder: Path, tmp_path_factory) -> None:
    """A catalogue stayed as short as it was when half of the images were there.

    Other pictures had the scenes of the first.
    """
    orm_folder = gqa_folder / "orm"
    (orm_folder / "train.json").parent.mkdir()
    (orm_folder / "train.json").write_text(json.dumps(good_orm_rows(orm_folder)))
    lines = [
        {"image": f"img/{i}.png", "subject": "mug", "relation": PLANAR[i % 4], "object": "plate"} for i in range(12)
    ]
    (orm_folder / "scenes.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def addresses(folder: Path = gqa_folder) -> list[tuple[str, str]]:
        found = []
        for source, below in (("gqa", "."), ("orm", "orm"), ("jsonl", "orm")):
            data = {"source": source, "path": str(folder / below), "train": 2, "val": 1, "test": 1}
            run = Run.of(load_run_config("mini-sd", {"data": data, "benchmark": PHOTOGRAPHS}), folder / "home")
            found.append((run.paths.catalogue.parent.name, run.paths.scenes.name))
        return found

    def changed(before: list, after: list) -> list[bool]:
        return [all(a != b for a, b in zip(old, new, strict=True)) for old, new in zip(before, after, strict=True)]

    first = addresses()
    copied = shutil.copytree(gqa_folder, tmp_path_factory.mktemp("copy") / "data", copy_function=shutil.copyfile)
    (gqa_folder / "images" / "notes.txt").write_text("no image")
    draw(orm_folder / "unnamed.png")
    assert addresses(copied) == first == addresses()
    draw(gqa_folder / "images" / "noimage.jpg")
    added = addresses()
    assert changed(first, added) == [True, False, False]
    picture = orm_folder / "img" / "3.png"
    picture.write_bytes(bytes(reversed(picture.read_bytes())))  # of the same size
    assert changed(added, addresses()) == [False, True, True]


def test_many_images_are_told_apart_by_size_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    small = listing.listing_digest(tmp_path, ["a.png", "gone.png"])
    monkeypatch.setattr(listing, "SMALL", 2)
    monkeypatch.setattr(listing, "file_digest", None)
    large = listing.listing_digest(tmp_path, ["a.png", "gone.png"])
    (tmp_path / "a.png").write_bytes(b"three")
    assert len({small, large, listing.listing_digest(tmp_path, ["a.png"])}) == 3


@pytest.mark.parametrize("name", ["mini-sd", "mini-flux"])
def test_a_phrase_too_long_for_the_text_window_is_counted_before_anything_is_inverted(
    tmp_path: Path, name: str
) -> None:
    """It ended the run when its maps were read, after the inversion."""
    lines = []
    long = "very " * 60 + "old mug"
    for i in range(24):
        draw(tmp_path / f"{i}.png")
        subject, object_ = (long, "plate") if i == 0 else ("plate", long) if i == 1 else ("mug", "plate")
        lines.append({"image": f"{i}.png", "subject": subject, "relation": PLANAR[i % 4], "object": object_})
    lines.append({"image": "0.png", "subject": "cup", "relation": PLANAR[0], "object": "plate"})
    (tmp_path / "scenes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = {"source": "jsonl", "path": str(tmp_path), "train": 4, "val": 1, "test": 1}
    config = load_run_config(name, {"data": data, "benchmark": PHOTOGRAPHS})
    run = Run.of(config, tmp_path / "home")
    choose_scenes.fn(run)
    catalogue = load_catalogue(run.paths.catalogue)
    cut_off = "a phrase is cut off by the backbone's text window"
    assert catalogue.skipped[cut_off] >= 1 and f"1.png: {cut_off}" in catalogue.named
    assert {e.image for e in catalogue.entries} == {f"{i}.png" for i in range(24) if i != 1} and sum(
        catalogue.short.values()
    ) == 1
    assert [e.triplet.subject for e in catalogue.entries if e.image == "0.png"] == [
        "cup"
    ]  # the other scene of its image
    phrase_check(config.backbone)(
        [scene_prompt(e.image_id, e.triplet, kind) for e in catalogue.entries for kind in PromptKind]
    )


def test_a_triplet_fits_under_each_of_its_prompts_or_not_at_all() -> None:
    backbone = load_run_config("mini-sd").backbone
    fits = window_test(backbone)
    check = phrase_check(backbone)
    longer = (Triplet(subject="dog", relation="above", object="very " * words + "old cat") for words in range(100))
    first = next(triplet for triplet in longer if not fits(triplet))
    check([prompt_for(first)])  # alone it fits; "to the left of" is longer than "above"
    with pytest.raises(UserError, match="cut off by the text window"):
        check([prompt_for(replace(first, relation="left of"), prefix="a photo of ")])


def build_catalogue_of(source: ReadSource) -> Catalogue:
    source.fingerprint()
    return build_catalogue(source)


def test_every_word_of_attributes_has_a_quota_of_its_own(tmp_path: Path) -> None:
    """As the paper has them: the count of a relation, shared by the words."""
    lines = []
    for number in range(40):
        word = "white" if number % 4 else "metal"
        draw(tmp_path / f"{number}.jpg")
        lines.append({"image": f"{number}.jpg", "subject": word, "relation": "is", "object": "dog"})
        draw(tmp_path / f"r{number}.jpg")
        relation = PLANAR[number % 4]
        lines.append({"image": f"r{number}.jpg", "subject": "cat", "relation": relation, "object": "dog"})
    (tmp_path / "scenes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    counts = {"train": 4, "val": 2, "test": 1, "attributes": ["white", "metal"]}
    found = {}
    for quotas in ("pooled", "word"):
        catalogue = build_catalogue(settings("jsonl", tmp_path, **counts, attribute_quotas=quotas))
        assert not catalogue.short
        chosen = [(e.split, e.triplet.subject) for e in catalogue.entries if e.triplet.relation == ATTRIBUTE]
        found[quotas] = Counter(chosen)
    assert sum(found["pooled"].values()) == 7
    assert found["word"] == {("train", "white"): 2, ("train", "metal"): 2, ("val", "white"): 1, ("val", "metal"): 1}
    more = counts | {"attributes": ["white", "green"], "attribute_quotas": "word"}
    with pytest.raises(UserError, match="no usable scene for train is green, val is green"):
        build_catalogue(settings("jsonl", tmp_path, **more))


def test_images_are_cropped_or_squashed(tmp_path: Path) -> None:
    """A wide image of three stripes: the crop shows the middle one alone, squashed it shows all."""
    stripes = np.repeat(np.array([0, 128, 255], np.uint8), 20)
    Image.fromarray(np.broadcast_to(stripes[None, :, None], (20, 60, 3)).copy()).save(tmp_path / "a.png")
    cropped, cut, squashed, padded = (images.read_image(tmp_path / "a.png", 12, resize=how) for how in images.WAYS)
    assert (padded[[0, -1]] == 255).all() and padded[6, 1, 0] < 10 and padded[6, 10, 0] > 245
    assert np.abs(cropped.astype(int) - 128).max() <= 10 and (cut == 128).all()
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(squashed, np.asarray(image.resize((12, 12))))  # Pillow's own filter is the bicubic one
    assert squashed[0, 1, 0] < 10 and abs(int(squashed[0, 5, 0]) - 128) < 10 and squashed[0, 10, 0] > 245
    wide = [images.read_image(tmp_path / "a.png", (6, 12), resize=how) for how in images.WAYS]
    assert all(image.shape == (6, 12, 3) for image in wide)
    for image in wide[:2]:  # the two crops: the middle stripe and half of each of the others
        assert image[3, 1, 0] < 20 and abs(int(image[3, 6, 0]) - 128) < 10 and image[3, 10, 0] > 235
    assert (wide[3][[0, -1]] == 255).all() and wide[3][3, 1, 0] < 10


def test_prompts_as_the_paper_writes_them() -> None:
    plain = settings("jsonl", Path("x"))
    paper = settings("jsonl", Path("x"), attributes=["white"], wording="paper", wrong="any")
    form = PromptForm.of(paper)
    pair = Triplet(subject="umbrella", relation="above", object="apple")
    assert PromptForm.of(plain) == PromptForm() and form.wrong == (*PLANAR, ATTRIBUTE)
    assert scene_prompt("x", pair, PromptKind.POS, form).text == "A umbrella above a apple"
    assert scene_prompt("x", pair, PromptKind.POS).text == "an umbrella above an apple"
    wrong = [scene_prompt(f"x{i}", pair, PromptKind.NEG, form) for i in range(400)]
    stated = Counter(prompt.triplet.relation for prompt in wrong)
    assert set(stated) == {"left of", "right of", "below", ATTRIBUTE} and all(
        0.17 < count / 400 < 0.33 for count in stated.values()
    )
    assert "A umbrella is a apple" in {prompt.text for prompt in wrong}
    white = Triplet(subject="white", relation=ATTRIBUTE, object="apple")
    assert scene_prompt("x", white, PromptKind.POS, form).text == "A white apple"
    texts = {scene_prompt(f"x{i}", white, PromptKind.NEG, form).text for i in range(100)}
    assert texts == {f"A white {WORDS[relation]} a apple" for relation in PLANAR}
    for prompt in (*wrong, scene_prompt("x", white, PromptKind.POS, form)):
        assert [prompt.text[slice(*span)] for span in prompt.spans] == list(prompt.objects)
    assert not {"wording", "wrong", "resize", "attribute_quotas"} & plain.model_dump().keys()
    with pytest.raises(ValueError, match="wording and wrong of the first source are those of all"):
        settings("jsonl", Path("x"), beside=[{**plain.model_dump(exclude={"beside"}), "wording": "paper"}])


def test_names_become_singular(gqa_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "inflect", None)
        with pytest.raises(UserError, match="data.names is singular, .*pip install -e .* set data.names to as-is"):
            build_catalogue(settings("gqa", gqa_folder, names="singular"))
    pytest.importorskip("inflect")
    singular = singular_names()
    names = {"trees": "tree", "people": "person", "dog": "dog", "glass": "glass", "bus": "bus", "red cars": "red car"}
    assert {name: singular(name) for name in names} == names
    file = next(gqa_folder.glob("*sceneGraphs.json"))
    file.write_text(file.read_text().replace('"name": "cat"', '"name": "cats"'))
    for setting, name in (("singular", "cat"), ("as-is", "cats")):
        catalogue = build_catalogue(settings("gqa", gqa_folder, names=setting))
        assert {e.triplet.object for e in catalogue.entries} == {name}


def test_a_name_that_leads_out_of_the_folder_is_no_image(tmp_path: Path) -> None:
    """A GQA id "../../out" read an image outside of the folder."""
    folder = tmp_path / "data" / "gqa"
    (folder / "images").mkdir(parents=True)
    for path in (tmp_path / "data" / "out.jpg", folder / "images" / "1.jpg"):
        Image.new("RGB", (8, 8)).save(path)
    assert image_bytes(folder, "images/1.jpg") and not image_bytes(folder, "images/../../out.jpg")
    assert not image_bytes(folder, str(tmp_path / "data" / "out.jpg")) and not image_bytes(folder, "images/x\0.jpg")
    objects = {"1": {"name": "dog", "relations": [{"name": "to the left of", "object": "2"}]}, "2": {"name": "cat"}}
    (folder / "train_sceneGraphs.json").write_text(
        json.dumps({name: {"objects": objects} for name in ("1", "../../out")})
    )
    skips = Skips()
    found = list(Gqa(path=folder, train=1, val=1, test=1).candidates(skips))
    assert [candidate.image for candidate in found] == ["images/1.jpg"] and skips.counts == {"image file missing": 1}


@pytest.mark.parametrize(
    "data", [b"[" * 20_000, b'{"a":' * 20_000, b'{"1": "\xff"}', b'{"1": ' + b"9" * 6000 + b"}", b'{"1": "\\ud8']
)
def test_large_json_that_the_parser_cannot_read_is_one_line(tmp_path: Path, data: bytes) -> None:
    """Nested 20,000 deep it took 9 seconds, and a number of thousands of digits ended the process."""
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(UserError, match="is not whole JSON .*fetch it again") as caught:
        list(streamed(path, lambda handle: ijson.kvitems(handle, "")))
    assert "\n" not in str(caught.value)


def test_brackets_in_texts_are_not_nested_and_a_byte_order_mark_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    text = json.dumps({"1": '[{"\\' * 200, "2": ['\\"[' * 100], "3": {"a": [1]}})
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    for size in (1, 7, 65536):
        found = streamed(path, lambda handle, size=size: ijson.kvitems(handle, "", buf_size=size))
        assert dict(found) == json.loads(text)
