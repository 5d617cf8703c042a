"""Judges of an open vocabulary: tiny random models for the plumbing, hand-made masks and boxes for what is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.damage import drop_weights
from helpers.models import PIXELS, bert_tokenizer, tiny_clipseg, tiny_dino, tiny_owl

from l2s_core.errors import UserError
from l2s_core.evaluation.detectors import boxes, named
from l2s_core.evaluation.detectors.boxes import (
    best_named,
    box_of,
    largest_blob,
    mask_detection,
    pixel_boxes,
    scaled_box,
)
from l2s_core.evaluation.detectors.cache import CachedJudge
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.detectors.grounding_dino import name_weights, phrases_text
from l2s_core.evaluation.detectors.judge import Judge
from l2s_core.evaluation.detectors.load import judge_fingerprint, load_judge, require_names
from l2s_core.evaluation.detectors.pixels import PixelSettings, model_pixels, read_pixel_settings
from l2s_core.evaluation.protocols.classes import COCO_CLASSES, GENEVAL_CLASSES

IMAGES = np.random.default_rng(5).integers(0, 256, (5, 40, 56, 3), np.uint8)
NAMES = [("dog", "teddy bear"), ("cat",), ("dog", "teddy bear"), (), ("dog", "teddy bear")]


TINY: dict[str, Callable[[Path], None]] = {"GroundingDino": tiny_dino, "Owlv2": tiny_owl, "ClipSeg": tiny_clipseg}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in TINY}
    for name, folder in made.items():
        TINY[name](folder)
    return made


@pytest.mark.parametrize("kind", TINY)
def test_from_folder_to_detections(kind, folders, monkeypatch) -> None:
    """Every image gets its own names, boxes lie inside it, best first.

    Neither batches nor company change what is found.
    """
    judge = load_judge(str(folders[kind]))
    assert type(judge).__name__ == f"{kind}Judge" and judge.OPEN_VOCABULARY
    found = judge.detect(IMAGES, NAMES)
    assert [bool(detections) for detections in found] == [True, True, True, False, True]
    for detections, names in zip(found, NAMES, strict=True):
        assert {d.name for d in detections} <= set(names)
        assert [d.score for d in detections] == sorted((d.score for d in detections), reverse=True)
        for d in detections:
            x0, y0, x1, y1 = d.box
            assert 0 <= x0 < x1 <= 56 and 0 <= y0 < y1 <= 40 and 0 < d.score <= 1
            assert all(type(v) is int for v in d.box) and type(d.score) is float
    monkeypatch.setattr(named, "BATCH", 1)
    alone = [judge.detect(IMAGES[i : i + 1], NAMES[i : i + 1])[0] for i in range(5)]
    for a, b in zip(found, alone, strict=True):
        assert [(d.name, d.box) for d in a] == [(d.name, d.box) for d in b]
        assert [d.score for d in a] == pytest.approx([d.score for d in b], abs=1e-5)


@pytest.mark.parametrize("kind", TINY)
def test_the_names_and_the_image_reach_the_model(kind, folders) -> None:
    judge = load_judge(str(folders[kind]))
    dog, cat, other = (
        [(d.box, d.score) for d in judge.detect(images, [(name,)])[0]]
        for name, images in (("dog", IMAGES[:1]), ("cat", IMAGES[:1]), ("dog", 255 - IMAGES[:1]))
    )
    assert dog and dog != cat and dog != other


class Says:
    """A model that puts out the same boxes and logits for every image."""

    def __init__(self, config, logits: list[list[float]], boxes: list[list[float]]) -> None:
        self.config = config
        self.logits = logits
        self.boxes = boxes

    def __call__(self, pixel_values, **_):
        repeated = {
            name: torch.tensor([value] * len(pixel_values))
            for name, value in (("logits", self.logits), ("pred_boxes", self.boxes))
        }
        return SimpleNamespace(**repeated)


def test_owlv2s_boxes_are_shares_of_the_padded_square(folders, monkeypatch) -> None:
    judge = load_judge(str(folders["Owlv2"]))
    says = Says(
        judge.model.config,
        [[0.0, 3.0], [-1.0, -2.0], [-9.0, -9.0]],
        [[0.5, 0.25, 0.25, 0.25], [0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0]],
    )
    monkeypatch.setattr(judge, "model", says)
    first, second = judge.detect(IMAGES[:2], [("dog", "cat")] * 2)
    assert [(d.name, d.box) for d in first] == [("cat", (21, 7, 35, 21)), ("dog", (0, 0, 56, 40))] and first == second
    assert [d.score for d in first] == pytest.approx([0.9526, 0.2689], abs=1e-4)


def test_grounding_dinos_logits_are_of_tokens(folders, monkeypatch) -> None:
    """[CLS] teddy bear . dog . [SEP]: a box that fires one of the two tokens of a name scores half for it."""
    judge = load_judge(str(folders["GroundingDino"]))
    fires = [[20.0 if k in places else -20.0 for k in range(24)] for places in ((1, 2), (2,), (4,), (0, 3, 6))]
    monkeypatch.setattr(
        judge, "model", Says(judge.model.config, fires, [[0.25 * q, 0.5, 0.25, 0.5] for q in range(1, 5)])
    )
    (found,) = judge.detect(IMAGES[:1], [("teddy bear", "dog")])
    assert [(d.name, d.box) for d in found] == [
        ("teddy bear", (7, 10, 21, 30)),
        ("dog", (35, 10, 49, 30)),
        ("teddy bear", (21, 10, 35, 30)),
    ]
    assert [d.score for d in found] == pytest.approx([1, 1, 0.5])


@pytest.mark.parametrize("kind", TINY)
def test_what_an_open_vocabulary_refuses(kind, folders) -> None:
    judge = load_judge(str(folders[kind]))
    with pytest.raises(UserError, match="only what it is asked for"):
        judge.detect(IMAGES)
    with pytest.raises(UserError, match="cannot look for ' - '"):
        judge.detect(IMAGES[:1], [(" - ",)])
    with pytest.raises(ValueError):
        judge.detect(IMAGES, NAMES[:2])
    with pytest.raises(UserError, match="tokens, and"):
        judge.detect(IMAGES[:1], [("dog cat " * 12,)])


def test_a_closed_set_finds_its_own_classes_whatever_is_asked() -> None:
    judge = load_judge("mini-seg")
    images = np.zeros((1, 64, 64, 3), np.uint8)
    assert judge.detect(images, [("unicorn",)]) == judge.detect(images)


def test_grounding_dino_refuses_a_name_that_would_end_a_phrase(folders) -> None:
    with pytest.raises(UserError, match="ends a name"):
        load_judge(str(folders["GroundingDino"])).require(["dog. cat"])


def rewrite(folder: Path, file: str, change: Callable[[dict], object]) -> None:
    stated = json.loads((folder / file).read_text())
    change(stated)
    (folder / file).write_text(json.dumps(stated))


def test_the_settings_decide_which_judge_it_is(folders, tmp_path) -> None:
    tiny_clipseg(tmp_path)
    rewrite(tmp_path, "config.json", lambda c: c.pop("architectures"))
    assert type(load_judge(str(tmp_path))).__name__ == "ClipSegJudge"
    rewrite(tmp_path, "config.json", lambda c: c.update(architectures=["YolosForObjectDetection"]))
    with pytest.raises(UserError, match="no judge; allowed: .*GroundingDino.*Owlv2.*CLIPSeg"):
        load_judge(str(tmp_path))
    rewrite(tmp_path, "config.json", lambda c: (c.pop("architectures"), c.pop("model_type")))
    with pytest.raises(UserError, match="holds a nothing"):
        judge_fingerprint(str(tmp_path))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda f: drop_weights(f / "model.safetensors", ending="box_head.dense0.weight"),
            "lacks 1 weights of a Owlv2.*box_head.dense0.weight",
        ),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "must be safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no weights"), "cannot load the judge"),
        (
            lambda f: (f / "tokenizer.json").unlink(),
            "has no vocabulary; needed: tokenizer.json, or vocab.txt, or vocab.json and merges.txt",
        ),
        (lambda f: (f / "preprocessor_config.json").unlink(), "no preprocessor_config.json"),
        (lambda f: rewrite(f, "preprocessor_config.json", lambda c: c.pop("image_mean")), "expected size, image_mean"),
        (
            lambda f: rewrite(f, "preprocessor_config.json", lambda c: c.update(size={"shortest_edge": 9})),
            "expected size",
        ),
    ],
)
def test_a_damaged_folder_says_so(harm, message, tmp_path) -> None:
    """Missing weights would be filled in at random, and a missing vocabulary be empty.

    The judge would judge with both.
    """
    tiny_owl(tmp_path)
    harm(tmp_path)
    with pytest.raises(UserError, match=message):
        load_judge(str(tmp_path))


def test_a_fingerprint_knows_the_vocabulary(tmp_path) -> None:
    tiny_owl(tmp_path)
    before = judge_fingerprint(str(tmp_path))
    (tmp_path / "merges.txt").write_text("d o\n")
    assert judge_fingerprint(str(tmp_path)) != before


# Pixels


def test_pixels_are_padded_resized_and_normalised() -> None:
    settings = PixelSettings(size={"height": 8, "width": 8}, mean=(0.5, 0.5, 0.5), deviation=(0.5, 0.25, 0.5))
    pixels = model_pixels(np.full((1, 2, 4, 3), 255, np.uint8), settings, "cpu", square=True)
    assert pixels.shape == (1, 3, 8, 8)
    assert pixels[0, 1, 0, 0] == 2 and pixels[0, 1, -1, 0] == -2  # white above, black padding below
    assert (model_pixels(np.full((1, 2, 4, 3), 255, np.uint8), settings, "cpu")[:, 0] == 1).all()


@pytest.mark.parametrize(
    ("image", "target"), [((512, 512), (800, 800)), ((400, 1000), (533, 1333)), ((1000, 500), (1333, 666))]
)
def test_proportions_are_kept_up_to_the_longest_edge(image, target) -> None:
    settings = PixelSettings(size={"shortest_edge": 800, "longest_edge": 1333}, mean=(0, 0, 0), deviation=(1, 1, 1))
    assert settings.target(*image) == target


def test_a_processors_own_file_is_read_too(tmp_path) -> None:
    (tmp_path / "processor_config.json").write_text(
        json.dumps({"image_processor": PIXELS | {"size": 352, "resample": 3}})
    )
    settings = read_pixel_settings(tmp_path)
    assert settings.target(10, 20) == (352, 352) and settings.mode == "bicubic" and settings.mean == (0.5, 0.4, 0.3)


# Boxes


@pytest.mark.parametrize(
    ("box", "frame", "expected"),
    [
        ((0.5, 0.5, 0.5, 0.25), (80, 100), (25, 30, 75, 50)),
        ((0.5, 0.5, 2.0, 2.0), (80, 100), (0, 0, 100, 80)),  # cut to the image
        ((0.504, 0.5, 0.5, 0.25), (80, 100), (25, 30, 75, 50)),  # 25.4 and 75.4
        ((0.505, 0.5, 0.5, 0.25), (80, 100), (26, 30, 76, 50)),  # 25.5 and 75.5
        ((0.5, 0.5, 0.5, 0.25), (100, 100), (25, 38, 75, 63)),  # shares of the padded square
        ((0.5, 0.9, 0.5, 0.1), (100, 100), (25, 80, 75, 80)),  # in the padding: no area
    ],
)
def test_boxes_from_centres_to_pixels(box, frame, expected) -> None:
    corners = pixel_boxes(torch.tensor([box], dtype=torch.double), frame=frame, size=(80, 100))
    assert tuple(corners[0].tolist()) == expected


def test_a_box_goes_by_its_best_name_and_the_best_box_comes_first() -> None:
    scores = torch.tensor([[0.2, 0.6], [0.9, 0.1], [0.3, 0.3], [0.25, 0.1], [0.8, 0.9]], dtype=torch.double)
    corners = torch.tensor([[0, 0, 2, 2], [1, 1, 3, 3], [2, 2, 4, 4], [3, 3, 5, 5], [4, 4, 4, 9]])
    found = best_named(scores, corners, ("dog", "cat"), 0.25)  # the fourth is at the limit, the fifth has no area
    assert [(d.name, d.box, d.score) for d in found] == [
        ("dog", (1, 1, 3, 3), 0.9),
        ("cat", (0, 0, 2, 2), 0.6),
        ("dog", (2, 2, 4, 4), 0.3),
    ]


def test_the_best_boxes_of_a_name_are_listed(monkeypatch) -> None:
    monkeypatch.setattr(boxes, "PER_NAME", 2)
    corners = torch.tensor([[i, 0, i + 1, 1] for i in range(4)])
    found = best_named(torch.tensor([[0.5, 0.0], [0.7, 0.0], [0.0, 0.1], [0.6, 0.0]]), corners, ("dog", "cat"), 0.05)
    assert [(d.name, d.box[0]) for d in found] == [("dog", 1), ("dog", 3), ("cat", 2)]


def test_a_name_scores_the_mean_over_its_own_tokens() -> None:
    """The "bear" of "teddy bear" and that of "bear" are tokens of their own, and half a name is half a score."""
    text, spans = phrases_text(["Teddy  Bear", "bear"])
    assert text == "teddy bear. bear." and [text[a:b] for a, b in spans] == ["teddy bear", "bear"]
    offsets = bert_tokenizer()(text, return_offsets_mapping=True)["offset_mapping"]
    weights = name_weights(offsets, text, spans, 8)
    assert weights.tolist() == [[0, 0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]]
    with pytest.raises(UserError, match="no token of 'bear'"):
        name_weights(offsets[:4], text, spans, 8)


# Masks


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (mask_of("....", "....", "...."), None),
        (mask_of("#...", "..##", "..##"), (2, 1, 4, 3)),
        (mask_of("#...", ".#..", "..##"), (0, 0, 4, 3)),  # corners touch: one blob
        (mask_of("#...#", ".....", "#...#"), (0, 0, 1, 1)),  # equal ones: the first
        (
            mask_of("#######.####", "#######.#..#", "........#..#", "........####"),
            (8, 0, 12, 4),
        ),  # a hole counts: 16 against 14
        (mask_of("####", "####", "####"), (0, 0, 4, 3)),
        (mask_of("########", "........", "##......", "##......"), (0, 2, 2, 4)),  # a line encloses nothing
    ],
)
def test_the_box_of_the_largest_blob(mask, box) -> None:
    blob = largest_blob(mask)
    assert (None if blob is None else box_of(blob)) == box


@pytest.mark.parametrize(
    ("value", "inside"), [(120 / 255, False), (120.9 / 255, False), (121.01 / 255, True), (1.0, True), (0.0, False)]
)
def test_the_mask_threshold_is_above_120_of_255(value, inside) -> None:
    probability = np.zeros((4, 4), np.float32)
    probability[1:3, 2:4] = value
    found = mask_detection(probability, "dog", (8, 4))
    assert (found is not None) == inside
    if inside:
        assert found == Detection(name="dog", box=(2, 2, 4, 6), score=pytest.approx(value))


def test_a_mask_is_not_stretched_to_its_range() -> None:
    """Regression against a min-max mask: an object the model is unsure of everywhere is not found."""
    probability = np.full((4, 4), 0.1, np.float32)
    probability[0, 0] = 0.4
    assert mask_detection(probability, "dog", (4, 4)) is None


@pytest.mark.parametrize(
    ("box", "of", "to", "expected"),
    [
        ((0, 0, 352, 352), (352, 352), (512, 512), (0, 0, 512, 512)),
        ((1, 3, 5, 7), (352, 352), (512, 512), (1, 4, 7, 10)),
        ((351, 351, 352, 352), (352, 352), (64, 32), (31, 63, 32, 64)),
        ((12, 12, 13, 13), (352, 352), (64, 64), (2, 2, 3, 3)),  # less than a pixel
    ],
)
def test_a_box_is_scaled_from_map_to_image(box, of, to, expected) -> None:
    assert scaled_box(box, of, to) == expected


# What was judged before


class CountingJudge(Judge):
    """Finds every name at the image's first value; counts the images it looks at."""

    def __init__(self, open_vocabulary: bool = True) -> None:
        self.names = ("dog", "cat")
        self.OPEN_VOCABULARY = open_vocabulary
        self.looked = 0

    def detect(self, images, names=None) -> list[list[Detection]]:
        self.looked += len(images)
        names = names if self.OPEN_VOCABULARY else [("dog",)] * len(images)
        return [
            [Detection(name=n, box=(int(image[0, 0, 0]), 0, 300, 9), score=1 / (3 + i)) for i, n in enumerate(asked)]
            for image, asked in zip(images, names, strict=True)
        ]


def test_a_cache_gives_what_the_judge_gives_and_asks_it_once(tmp_path) -> None:
    plain = CountingJudge()
    counted = CountingJudge()
    cached = CachedJudge(counted, "f1", tmp_path)
    assert cached.detect(IMAGES, NAMES) == plain.detect(IMAGES, NAMES) and counted.looked == 5
    assert (
        CachedJudge(counted, "f1", tmp_path).detect(IMAGES, NAMES) == plain.detect(IMAGES, NAMES)
        and counted.looked == 5
    )
    again = np.concatenate([IMAGES[1:2], 255 - IMAGES[:1], 255 - IMAGES[:1]])
    assert cached.detect(again, [("cat",)] * 3) == plain.detect(again, [("cat",)] * 3) and counted.looked == 6


def test_names_their_order_the_judge_and_the_image_shape_do_not_collide(tmp_path) -> None:
    counted = CountingJudge()
    images = np.zeros((1, 4, 6, 3), np.uint8)
    asks = [
        (images, ("dog", "cat"), "f1"),
        (images, ("cat", "dog"), "f1"),
        (images, ("dog",), "f1"),
        (images, ("dog,cat",), "f1"),
        (images, ("dog", "cat"), "f2"),
        (images.reshape(1, 6, 4, 3), ("dog", "cat"), "f1"),
    ]
    for count, (pixels, names, fingerprint) in enumerate(asks, start=1):
        assert [d.name for d in CachedJudge(counted, fingerprint, tmp_path).detect(pixels, [names])[0]] == list(names)
        assert counted.looked == count
    (tmp_path / "f2.jsonl").write_text(
        (tmp_path / "f1.jsonl").read_text()
    )  # another judge's file under this one's name
    CachedJudge(counted, "f2", tmp_path).detect(images, [("dog",)])
    assert counted.looked == len(asks) + 1


def test_a_closed_set_is_cached_whatever_is_asked(tmp_path) -> None:
    counted = CountingJudge(open_vocabulary=False)
    cached = CachedJudge(counted, "f1", tmp_path)
    assert cached.detect(IMAGES) == cached.detect(IMAGES, NAMES) and counted.looked == 5
    cached.require(["dog"])
    with pytest.raises(UserError, match="unknown object"):
        cached.require(["unicorn"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2],
        lambda line: line.replace(b"300", b"301"),  # still JSON, but not what was found
        lambda line: b"[]",
        lambda line: b"\xff\xfe{}",
        lambda line: b"",
    ],
)
def test_a_damaged_line_is_judged_again_and_replaced(damage, tmp_path) -> None:
    counted = CountingJudge()
    cached = CachedJudge(counted, "f1", tmp_path)
    expected = cached.detect(IMAGES, NAMES)
    path = tmp_path / "f1.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines()
    path.write_bytes(b"\n".join([damage(lines[0]), *lines[1:]]))
    assert cached.detect(IMAGES, NAMES) == expected and counted.looked == 6
    assert sorted(path.read_bytes().splitlines()) == sorted(lines)


def test_two_writers_keep_each_others_lines(tmp_path) -> None:
    class Meanwhile(CountingJudge):
        def detect(self, images, names=None):
            CachedJudge(CountingJudge(), "f1", tmp_path).detect(IMAGES[1:2], NAMES[1:2])
            return super().detect(images, names)

    CachedJudge(Meanwhile(), "f1", tmp_path).detect(IMAGES[:1], NAMES[:1])
    later = CountingJudge()
    CachedJudge(later, "f1", tmp_path).detect(IMAGES[:2], NAMES[:2])
    assert later.looked == 0


@pytest.mark.parametrize("kind", TINY)
def test_a_real_judge_finds_the_same_with_and_without_a_cache(kind, folders, tmp_path) -> None:
    plain = load_judge(str(folders[kind])).detect(IMAGES, NAMES)
    cached = load_judge(str(folders[kind]), cache=tmp_path)
    assert cached.detect(IMAGES, NAMES) == plain and cached.detect(IMAGES, NAMES) == plain
    assert [p.name for p in tmp_path.glob("*.jsonl")] == [f"{judge_fingerprint(str(folders[kind]))}.jsonl"]


def test_objects_that_a_closed_set_lacks_are_named_at_once(tmp_path: Path) -> None:
    """By the labels that a detector's settings state, under COCO's, GenEval's and T2I-CompBench's names.

    No weights are read.
    """
    labels = {str(i): "motorbike" if name == "motorcycle" else name for i, name in enumerate(COCO_CLASSES)}
    (tmp_path / "config.json").write_text(
        json.dumps({"architectures": ["Mask2FormerForUniversalSegmentation"], "id2label": labels})
    )
    require_names(str(tmp_path), [*COCO_CLASSES, *GENEVAL_CLASSES, "Dog"])
    for model, name, near in (
        (str(tmp_path), "dgo", "dog"),
        (str(tmp_path), "girl", None),
        ("mini-seg", "ca", "cat"),
        ("mini-seg", "background", None),
    ):
        with pytest.raises(UserError, match=f"'{name}'" + (f"; did you mean '{near}'" if near else "")):
            require_names(model, [name])
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Owlv2ForObjectDetection"]}))
    require_names(str(tmp_path), ["whatever"])
