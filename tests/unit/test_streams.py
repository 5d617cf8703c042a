"""Random streams: each has a number of its own, and the numbers stand in one place."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from l2s_core.miniworld.training.reflow import PairCaptions
from l2s_core.miniworld.world.captions import CaptionStyle, web_caption
from l2s_core.miniworld.world.scenes import sample_layout
from l2s_core.miniworld.world.streams import Stream, scene_rng

CORE = Path(__file__).parents[2] / "l2s_core"


def test_no_two_streams_share_a_number() -> None:
    numbers = [int(stream) for stream in Stream.__members__.values()]
    assert len(numbers) == len(set(numbers)) == len(Stream) >= 15


def test_streams_are_named_wherever_random_numbers_of_scenes_are_drawn() -> None:
    stated = {}
    for path in sorted(CORE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        calls = re.findall(r"scene_rng\(([^()]*(?:\([^()]*\)[^()]*)*)\)", text)
        stated |= {f"{path.name}: {call}": call for call in calls if not call.startswith("seed: int")}
    assert len(stated) >= 10
    assert not {place for place, call in stated.items() if not re.search(r"Stream\.[A-Z_]+|self\.stream", call)}


@pytest.mark.parametrize(
    ("stream", "number"),
    [(Stream.DATA, 51), (Stream.JUDGE_ACCURACY, 61), (Stream.EVIDENCE, 81), (Stream.REFERENCES, 91)],
)
def test_what_reports_draw_keeps_its_number(stream: Stream, number: int) -> None:
    """Another number would draw other scenes, and published figures would be of others than the code's."""
    assert scene_rng(3, 7, stream).random() == np.random.default_rng((3, number, 7)).random()


def test_the_scenes_of_reflows_captions_are_no_training_scenes_of_the_judge() -> None:
    """Both had stream 41, and seed 0 in the shipped configurations."""
    captions = PairCaptions(seed=0, counts=(0.15, 0.73, 0.12), style=CaptionStyle())

    def drawn(stream: Stream) -> list[str]:
        generators = [scene_rng(0, index, stream) for index in range(8)]
        return [web_caption(sample_layout(rng, counts=captions.counts), rng) for rng in generators]

    assert [captions(index) for index in range(8)] == drawn(Stream.REFLOW_CAPTIONS) != drawn(Stream.JUDGE)
