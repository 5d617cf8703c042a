"""Images out to GenEval's own scorer, its results back: on a run whose images are laid where they would be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import run_of
from PIL import Image

from l2s_core.config import load_run_config
from l2s_core.errors import UserError
from l2s_core.evaluation.official import export_images, import_results, official_summary
from l2s_core.evaluation.run import Run
from l2s_core.evaluation.samples import SampleShard, save_samples

SETTINGS = {"benchmark": "no-relation", "benchmark.prompts": 3, "benchmark.seeds": 2, "shard": 5, "classifiers": {}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two tasks, three prompts each, two images a prompt.

    The images of `plain` are there, numbered by their brightness.
    """
    made = run_of(tmp_path / "home", load_run_config("mini-sd", SETTINGS))
    number = 0
    for name, items in made.item_shards():
        images = torch.stack([torch.full((64, 64, 3), number + i, dtype=torch.uint8) for i in range(len(items))])
        number += len(items)
        cost = {key: torch.zeros(len(items)) for key in ("gradients", "checks", "skipped")}
        save_samples(
            made.paths.samples("plain") / f"{name}.safetensors",
            SampleShard(item_ids=[i.item_id for i in items], images=images, seconds=1.0, **cost),
        )
    return made


def test_every_image_lies_where_the_scorer_looks_and_results_come_back(run, tmp_path) -> None:
    folder = tmp_path / "out"
    assert export_images(run, "plain", folder) == 12 and export_images(run, "plain", folder) == 0
    results = []
    place = 0
    for prompt in range(6):
        metadata = json.loads((folder / f"{prompt:05d}" / "metadata.jsonl").read_text())
        assert metadata["prompt"] == run.items[2 * prompt].prompt.text
        for k in range(2):
            path = folder / f"{prompt:05d}" / "samples" / f"{k:04d}.png"
            assert (np.asarray(Image.open(path)) == place).all()
            results.append(
                {
                    "filename": str(path),
                    "tag": metadata["tag"],
                    "prompt": metadata["prompt"],
                    "correct": place % 3 == 0,
                    "reason": "",
                }
            )
            place += 1
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in results))
    rates = import_results(run, "plain", tmp_path / "results.jsonl")
    assert {tag: (rate.hits, rate.count) for tag, rate in rates.items()} == {
        "single_object": (2, 6),
        "two_object": (2, 6),
        "all": (4, 12),
    }
    assert official_summary(run) == {"plain": rates}
    (folder / "00002" / "samples" / "0002.png").write_bytes(path.read_bytes())  # of an export with more seeds
    with pytest.raises(UserError, match=r"0002.png belongs to no sample of this export, .*; move it away"):
        export_images(run, "plain", folder)


def test_what_cannot_be_exchanged_is_said(run, tmp_path) -> None:
    for method, message in (("main", "no images of main"), ("nonsense", "unknown method 'nonsense'")):
        with pytest.raises(UserError, match=message):
            export_images(run, method, tmp_path / "out")
    pairs = run_of(tmp_path)
    with pytest.raises(UserError, match="set benchmark.protocol=geneval"):
        export_images(pairs, "plain", tmp_path / "out")
    (tmp_path / "results.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="line 1"):
        import_results(run, "plain", tmp_path / "results.jsonl")
    assert official_summary(run) == {}
