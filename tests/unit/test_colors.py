"""Colours of found objects: what the classifier compares, what it is shown, and what a run without one says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models import tiny_clip
from helpers.runs import run_of

from l2s_core.config import load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.detectors.detection import Detection
from l2s_core.evaluation.judging import Judging
from l2s_core.evaluation.methods.selection import JudgeChooser
from l2s_core.evaluation.metrics.clipscore import clip_fingerprint, load_clip
from l2s_core.evaluation.metrics.colors import TEMPLATES, ColorReader, seen_colors
from l2s_core.evaluation.protocols.geneval import Geneval
from l2s_core.evaluation.protocols.geneval_prompts import generate_records
from l2s_core.evaluation.protocols.geneval_rules import COLORS
from l2s_core.evaluation.protocols.items import EvalItem
from l2s_core.evaluation.protocols.protocol import benchmark_items
from l2s_core.prompts.prompt import SeveralPrompt

RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class WordsAndPixels:
    """Embeds an image as its mean colour, and a text as the colour that it names."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_images(self, images) -> torch.Tensor:
        return torch.tensor(np.stack([image.reshape(-1, 3).mean(0) for image in images])).float() / 255

    def embed_texts(self, texts) -> torch.Tensor:
        self.texts += texts
        return (
            torch.tensor(
                [next((rgb for color, rgb in RGB.items() if f" {color}" in text), (0, 0, 0)) for text in texts]
            ).float()
            / 255
        )


def item(tag: str = "color_attr") -> EvalItem:
    record = generate_records(tag, "dev", 1)[0]
    names = tuple(clause.name for clause in record.include)
    return EvalItem(
        item_id="i",
        prompt_group=tag,
        prompt=SeveralPrompt(text=record.prompt, triplets=(), objects=names, spans=()),
        seed=0,
        record=record,
    )


COLORED_TASKS = Geneval(prompts=1, tags=("colors", "color_attr"), clip="some-clip")


def scene(boxes: dict[tuple[int, int, int, int], str]) -> np.ndarray:
    image = np.full((32, 48, 3), 255, np.uint8)
    for (x0, y0, x1, y1), color in boxes.items():
        image[y0:y1, x0:x1] = RGB[color]
    return image


def test_each_box_is_cut_out_and_compared_with_the_words_of_its_own_class() -> None:
    asked = item()
    (a, b) = ((2, 3, 9, 20), (30, 0, 48, 32))
    first, second = asked.objects
    found = [
        Detection(name=first, box=a, score=0.9),
        Detection(name=second, box=b, score=0.8),
        Detection(name=second, box=(0, 0, 1, 1), score=0.5),
    ]
    clip = WordsAndPixels()
    images = np.stack([scene({a: "green", b: "blue"}), scene({a: "red", b: "green"}), scene({})])
    boxes = [COLORED_TASKS.colored_boxes(asked, one) for one in (found, found, found[:1])]
    seen = seen_colors(ColorReader(clip), [asked.prompt.text] * 3, images, boxes)
    assert seen == [
        {(first, a): "green", (second, b): "blue"},
        {(first, a): "red", (second, b): "green"},
        {(first, a): "red"},
    ]  # the first of equal ones
    assert len(clip.texts) == 2 * len(COLORS) * len(TEMPLATES)  # every class once
    assert clip.texts[:3] == [
        f"a photo of a red {first}",
        f"a photo of a red-colored {first}",
        "a photo of a red object",
    ]
    verdict = COLORED_TASKS.verdict(asked, found, (48, 32), seen[0])
    wanted = [clause.color for clause in asked.record.include]
    assert verdict.reason == f"{first} looks green, not {wanted[0]}; {second} looks blue, not {wanted[1]}"
    assert verdict.all_found


def test_a_tiny_clip_answers_alike_in_any_batch(tmp_path: Path) -> None:
    clip = load_clip(str(tiny_clip(tmp_path)))
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((1, 1), (40, 3), (3, 40), (32, 32), (64, 17))]
    names = ["car", "dog", "car", "dog", "tv remote"]
    colors = ColorReader(clip).read(crops, names)
    assert [ColorReader(clip).read(crops, names, batch=size) for size in (1, 2)] == [colors] * 2 and set(colors) <= set(
        COLORS
    )
    assert ColorReader(clip).read([], []) == []
    texts = [template.format(color=color, name="dog") for color in COLORS for template in TEMPLATES]
    embedded = clip.embed_texts(texts).view(len(COLORS), len(TEMPLATES), -1).mean(1)
    cosines = torch.nn.functional.cosine_similarity(clip.embed_images(crops[3:4]), embedded)
    assert colors[3] == COLORS[int(cosines.argmax())]


def test_a_colour_that_nothing_tells_is_an_error() -> None:
    judging = Judging(protocol=COLORED_TASKS, judge=Finder())
    images = torch.from_numpy(scene({})[None])
    with pytest.raises(UserError, match="asks for a colour.* set benchmark.clip"):
        judging.judge_images([item("colors")], images)
    (image,) = judging.judge_images([item("single_object")], images)
    assert image.correct and len(image.detections) == 1


class Finder:
    def detect(self, images, names):
        return [[Detection(name=name, box=(0, 0, 9, 9), score=0.9) for name in asked] for asked in names]


def test_the_judge_chooses_by_colour_too() -> None:
    asked = item("colors")
    clip = WordsAndPixels()
    color = asked.record.include[0].color
    clip.embed_texts = lambda texts: torch.tensor(
        [RGB["blue"] if f" {color}" in text else RGB["red"] for text in texts]
    ).float()
    images = torch.from_numpy(np.stack([scene({(0, 0, 9, 9): name}) for name in ("red", "blue")]))
    judging = Judging(protocol=COLORED_TASKS, judge=Finder(), colors=ColorReader(clip))
    scores = JudgeChooser(judging).scores([asked] * 2, images, None)
    assert [score[0] for score in scores] == [0.0, 1.0]


COLORED = {
    "benchmark": "geneval",
    "benchmark.tags": ["colors", "color_attr"],
    "benchmark.prompts": 3,
    "benchmark.seeds": 2,
}


def test_settings_that_cannot_work_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match="benchmark.tags colors, color_attr asks for colours.* "
        "set benchmark.clip to a CLIPModel .*vit-large-patch14",
    ):
        load_run_config("sd21", COLORED)
    with pytest.raises(
        UserError, match="the objects of data.source miniworld have their own; allowed here: single_object, two_object"
    ):
        benchmark_items(load_run_config("mini-sd", {**COLORED, "benchmark.clip": "some-clip"}))
    file = tmp_path / "metadata.jsonl"
    file.write_text(
        '{"tag": "single_object", "prompt": "a photo of a red car", '
        '"include": [{"class": "car", "count": 1, "color": "red"}]}'
    )
    with pytest.raises(UserError, match="asks for a colour in the task single_object; allowed in: colors, color_attr"):
        benchmark_items(load_run_config("sd21", {"benchmark.file": file, "benchmark.tags": ["single_object"]}))


def test_verdicts_have_the_address_of_what_told_the_colours(tmp_path: Path) -> None:
    config = load_run_config("sd21", {**COLORED, "data": "gqa-orm", "benchmark.clip": str(tiny_clip(tmp_path))})
    items = benchmark_items(config)
    assert [i.prompt_group for i in items] == ["colors"] * 6 + ["color_attr"] * 6 and all(
        not i.prompt.triplets for i in items
    )
    folders = {
        run_of(tmp_path, config, given=tmp_path, inputs={"colors": colors}).paths.verdicts("plain")
        for colors in (None, clip_fingerprint(config.benchmark.clip), "other")
    }
    assert len(folders) == 3
