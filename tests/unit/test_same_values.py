"""Holding two folders of runs against each other: addresses, times and names do not count, one bit of a value does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fakes import write_fake_shards

from l2s_core.experiments.same_values import compare_homes, main
from l2s_core.storage.store import write_tensors

ROW = {
    "item_id": "a-0",
    "prompt": "a dog above a cat",
    "seed": 3,
    "correct": True,
    "all_found": True,
    "score": None,
    "gradients": 4,
    "checks": 2,
    "skipped": 0,
    "seconds": 1.5,
    "detections": [{"name": "dog", "box": [0, 0, 8, 8], "score": 0.9}],
}


def home(folder: Path, address: str, *, images: torch.Tensor | None = None, seconds: float = 1.0, **row) -> Path:
    images = torch.arange(12) if images is None else images
    write_tensors(folder / "stages" / "samples" / address / "00000.safetensors", {"images": images}, {"s": seconds})
    maps = folder / "stages" / "maps" / address
    maps.mkdir(parents=True)
    write_fake_shards(maps, shards=1, images=6)
    verdicts = folder / "stages" / "verdicts" / address / "verdicts.json"
    verdicts.parent.mkdir(parents=True)
    verdicts.write_text(json.dumps([{**ROW, "seconds": seconds, **row}]))
    return folder


def counts(first: Path, second: Path) -> dict[str, tuple[int, int, int]]:
    return {row.stage: (row.same, row.only_first, row.only_second) for row in compare_homes(first, second)}


def test_other_addresses_and_times_are_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    first = home(tmp_path / "a", "0123")
    second = home(tmp_path / "b", "4567", seconds=9.0)
    found = counts(first, second)
    assert {stage: row for stage, row in found.items() if any(row)} == {
        "samples": (1, 0, 0),
        "maps": (1, 0, 0),
        "verdicts": (1, 0, 0),
    }
    monkeypatch.setattr("sys.argv", ["same_values", str(first), str(second)])
    main()
    assert "samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("samples", {"images": torch.arange(12) + (torch.arange(12) == 11)}),
        ("verdicts", {"correct": False}),
        ("verdicts", {"detections": [{"name": "dog", "box": [0, 0, 8, 8], "score": np.nextafter(0.9, 1)}]}),
    ],
)
def test_one_value_is_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, change: dict) -> None:
    first = home(tmp_path / "a", "0123")
    second = home(tmp_path / "b", "0123", **change)
    found = counts(first, second)
    assert found.pop(stage) == (0, 1, 1)
    assert all(row[1:] == (0, 0) for row in found.values())
    monkeypatch.setattr("sys.argv", ["same_values", str(first), str(second)])
    with pytest.raises(SystemExit, match="1"):
        main()


def test_nothing_at_all_is_not_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["same_values", str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit, match="1"):
        main()
