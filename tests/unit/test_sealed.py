"""Damage is noticed: every flipped bit, every file in another one's place, whatever a mutated file holds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fakes import SOURCE, write_fake_shards
from helpers.judged import judged_image

from l2s_core.backbones import folder as folders
from l2s_core.classifier.checkpoint import DESCRIPTION, RESULT, WEIGHTS, TrainedClassifier
from l2s_core.classifier.experiment import ClassifierResult, load_result, save_experiment
from l2s_core.classifier.model import build_classifier
from l2s_core.config import ClassifierConfig
from l2s_core.data.catalogue import Catalogue, Entry, load_catalogue, save_catalogue
from l2s_core.data.scene_shards import load_scenes, load_skipped, load_triplets, save_scenes
from l2s_core.data.scenes import PromptKind, Scene
from l2s_core.dataset.reader import MapDataset, verify_shard
from l2s_core.diffusion.noise import LabelledPrompt, NoiseShard, load_noise, save_noise
from l2s_core.errors import UserError
from l2s_core.evaluation.judged_image import read_judged, write_judged
from l2s_core.evaluation.samples import SampleShard, load_samples, save_samples
from l2s_core.prompts.prompt import prompt_for
from l2s_core.relations import Triplet
from l2s_core.storage import files
from l2s_core.storage.files import atomic_path, read_json, write_text
from l2s_core.storage.lines import read_jsonl, read_lines
from l2s_core.storage.manifest import NAME, require_listed
from l2s_core.storage.sealed import sealed_path
from l2s_core.storage.store import write_tensors
from l2s_core.storage.versioned import write_versioned

TRIPLET = Triplet(subject="dog", relation="above", object="cat")
RESULTS = ClassifierResult(
    best_epoch=1, history=[{"loss": 1.0}], seconds=1.0, records={}, validation={}, test={"accuracy": 0.5}, confusion=[]
)
Made = dict[Path, Callable[[], Any]]


def classifier_of(seed: int) -> TrainedClassifier:
    torch.manual_seed(seed)
    config = ClassifierConfig(kind="conv", width=4)
    return TrainedClassifier(model=build_classifier(config, SOURCE), config=config, source=SOURCE)


def outputs(home: Path) -> Made:
    """Write one output of every stage; return what reads each file."""
    at = {stage: home / "stages" / stage / "0123456789abcdef" for stage in ("catalogue", "scenes", "noise", "samples")}
    at |= {stage: home / "stages" / stage / "fedcba9876543210" for stage in ("maps", "classifier", "verdicts")}
    scene = Scene(image_id="1", split="train", image=np.zeros((8, 8, 3), np.uint8), triplet=TRIPLET)
    row = LabelledPrompt(image_id="1", split="train", kind=PromptKind.POS, prompt=prompt_for(TRIPLET), true=(TRIPLET,))
    catalogue = at["catalogue"] / "catalogue.json"
    save_catalogue(catalogue, Catalogue(entries=[Entry(image_id="1", split="train", triplet=TRIPLET)]))
    scenes = at["scenes"] / "00000.safetensors"
    save_scenes(scenes, [scene], 8)
    noise = at["noise"] / "00000.safetensors"
    save_noise(noise, NoiseShard(rows=[row], noise=torch.randn(1, 4, 2, 2)))
    samples = at["samples"] / "00000.safetensors"
    cost = {name: torch.zeros(2, dtype=torch.int64) for name in ("gradients", "checks", "skipped")}
    images = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    save_samples(samples, SampleShard(item_ids=["a", "b"], images=images, seconds=1.0, **cost))
    maps = write_fake_shards(at["maps"], shards=1)[0]
    save_experiment(at["classifier"], classifier_of(0), RESULTS)
    verdicts = at["verdicts"] / "verdicts.json"
    write_judged(verdicts, [judged_image(0), judged_image(1)])
    return {
        catalogue: lambda: load_catalogue(catalogue),
        scenes: lambda: (load_scenes(scenes), load_triplets(scenes), load_skipped(scenes)),
        noise: lambda: load_noise(noise),
        samples: lambda: load_samples(samples),
        maps: lambda: (verify_shard(maps), list(MapDataset([maps], split="train").batches(8))),
        at["classifier"] / WEIGHTS: lambda: load_result(at["classifier"]),
        at["classifier"] / DESCRIPTION: lambda: load_result(at["classifier"]),
        at["classifier"] / RESULT: lambda: load_result(at["classifier"]),
        verdicts: lambda: read_judged(verdicts),
    }


def refusal(read: Callable[[], Any]) -> str:
    """The one line that a reader refuses a file with."""
    with pytest.raises(UserError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_flipped_bit_of_every_output_is_noticed(tmp_path: Path) -> None:
    """4 kB of zeros, any of 200 flipped bits, a verdict set to true: the same command went on and reported them."""
    random = Random(0)
    for path, read in outputs(tmp_path).items():
        read()
        whole = path.read_bytes()
        for _ in range(40):
            data = bytearray(whole)
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            path.write_bytes(data)
            assert path.name in refusal(read)
        path.write_bytes(whole)
        read()


def test_a_verdict_or_an_accuracy_that_was_edited_is_noticed(tmp_path: Path) -> None:
    for path, read in outputs(tmp_path).items():
        if path.suffix == ".json":
            text = path.read_text()
            path.write_text(text.replace("true", "false").replace("0.5", "0.9").replace("dog", "car"))
            assert path.read_text() == text or "is damaged" in refusal(read)


def test_a_whole_file_in_another_ones_place_is_noticed(tmp_path: Path) -> None:
    """One Parquet shard copied over another, a steered method's images in plain's place."""
    readers = {"scenes": load_scenes, "noise": load_noise, "samples": load_samples, "maps": verify_shard}
    for path in outputs(tmp_path):
        stage = path.parent.parent.name
        if stage in readers:
            for other in (path.parent / f"00001{path.suffix}", path.parent.with_name("another") / path.name):
                other.parent.mkdir(exist_ok=True)
                shutil.copy(path, other)
                assert "was written as" in refusal(lambda stage=stage, other=other: readers[stage](other))
    verdicts = next(tmp_path.glob("stages/verdicts/*/verdicts.json"))
    other = shutil.copytree(verdicts.parent, verdicts.parent.with_name("another")) / verdicts.name
    assert "is another output's" in refusal(lambda: read_judged(other))


def test_a_classifier_is_refused_with_parts_of_another_one(tmp_path: Path) -> None:
    """A copy of the whole may lie anywhere outside of a run's stages; inside them, where its run wrote it."""
    first = tmp_path / "stages" / "classifier" / "a"
    second = tmp_path / "stages" / "classifier" / "b"
    for seed, folder in enumerate((first, second)):
        save_experiment(folder, classifier_of(seed), RESULTS)
    copied = shutil.copytree(first, tmp_path / "mine")
    TrainedClassifier.load(copied)
    shutil.copy(second / WEIGHTS, copied / WEIGHTS)
    with pytest.raises(UserError, match="was written as classifier/b/model.safetensors, and is another"):
        TrainedClassifier.load(copied)
    moved = shutil.copytree(first, tmp_path / "stages" / "classifier" / "c")
    with pytest.raises(UserError, match="was written as classifier/a/classifier.json"):
        TrainedClassifier.load(moved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    trained = classifier_of(0)
    next(iter(trained.model.parameters())).data.view(-1)[3] = value
    trained.save(tmp_path)
    with pytest.raises(UserError, match="1 weights are not finite numbers, as .*; train it again"):
        TrainedClassifier.load(tmp_path)


def test_what_ships_is_checked_when_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = folders.SHIPPED
    listed = {line.split(maxsplit=1)[1].strip() for line in (shipped / NAME).read_text().splitlines()}
    there = {path.relative_to(shipped).as_posix() for path in shipped.rglob("*") if path.is_file()}
    assert there - listed == {NAME, "LICENSE.sprites.txt"} and listed <= there
    require_listed(shipped, shipped)
    copied = tmp_path / "assets"
    copied.mkdir()
    shutil.copy(shipped / NAME, copied / NAME)
    shutil.copytree(shipped / "mini-seg", copied / "mini-seg")
    monkeypatch.setattr(folders, "SHIPPED", copied)
    assert folders.find_folder("judge", "mini-seg", "config.json", (), "") == copied / "mini-seg"
    weights = copied / "mini-seg" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match="model.safetensors ships with this project and was changed or damaged"):
        folders.find_folder("judge", "mini-seg", "config.json", (), "")


def test_sealed_files_of_another_structure_are_one_line(tmp_path: Path) -> None:
    """Of a right checksum and other contents: TypeError, KeyError in scenes, noise and samples."""
    tensors = ({}, {"images": torch.zeros(3)}, {"noise": torch.zeros(2), "psnr": torch.zeros(1)})
    descriptions = (None, 3, [], {}, {"scenes": [1], "rows": [{}], "item_ids": 1, "control": None})
    for path, read in outputs(tmp_path).items():
        whole = path.read_bytes()
        if path.suffix == ".json":
            stored = [key for key in read_json(path) if key not in ("format", "place", "checksum")]
            for value in (3, [None], "x"):
                write_versioned(path, 1, dict.fromkeys(stored, value))
                assert path.name in refusal(read)
            write_versioned(path, 1, {})
            assert path.name in refusal(read)
        elif path.suffix == ".safetensors":
            for held, description in product(tensors, descriptions):
                write_tensors(path, held, description)
                assert path.name in refusal(read)
        path.write_bytes(whole)


def mutated(data: bytes, random: Random) -> bytes:
    """One of the ways in which a file may be other than it was."""
    at = random.randrange(len(data))
    length = random.choice((1, 4, 64, 4096))
    ways = (
        lambda: data[:at] + bytes([random.randrange(256)]) + data[at + 1 :],
        lambda: data[:at] + bytes(min(length, len(data) - at)) + data[at + length :],
        lambda: data[:at],
        lambda: data[:at] + data[at + length :],
        lambda: data[:at] + data[:length] + data[at:],
        lambda: data[:at] + random.choice((b"[" * 5000, b'{"a":' * 3000, b"null", b"\xff\xfe", b"\\ud800")) + data[at:],
    )
    return random.choice(ways)()


def test_a_mutated_output_is_refused_in_one_line(tmp_path: Path) -> None:
    random = Random(1)
    for path, read in outputs(tmp_path).items():
        whole = path.read_bytes()
        for _ in range(60):
            data = mutated(whole, random)
            path.write_bytes(data)
            if data != whole:
                refusal(read)
        path.write_bytes(whole)


def test_a_mutated_text_of_anyones_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    random = Random(2)
    path = tmp_path / "x.jsonl"
    whole = "".join(
        json.dumps({"prompt": "a dög", "n": n, "deep": [[[1]]]}, ensure_ascii=False) + "\n" for n in range(9)
    )
    for _ in range(400):
        path.write_bytes(mutated(whole.encode(), random))
        for read in (lambda: read_jsonl(path, str), lambda: read_lines(path, str), lambda: read_json(path)):
            try:
                read()
            except UserError as error:
                assert "\n" not in str(error)


def test_a_byte_order_mark_costs_no_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n')
    assert read_jsonl(path, dict) == [{"a": 1}, {"a": 2}]
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(path) == [1]


@pytest.mark.parametrize("data", [b'"\xff"', b"[" * 100_000, b'"\\ud800"', b"", b"9" * 10_000, '"ä"'.encode("utf-16")])
def test_json_that_cannot_be_read_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    assert str(path) in refusal(lambda: read_json(path))


def test_outputs_of_an_earlier_version_are_named(tmp_path: Path) -> None:
    """They had no checksums."""
    for path, read in outputs(tmp_path).items():
        if path.suffix == ".json":
            stored = {k: v for k, v in read_json(path).items() if k not in ("format", "place", "checksum")}
            write_text(path, json.dumps(stored))
        else:
            data = path.read_bytes()
            path.write_bytes(data.replace(b"l2s-sha256:", b"xxx-sha256:"))
        assert "earlier version" in refusal(read)


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_anyone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power failure a renamed file could be empty."""
    done: list[str] = []
    flush = os.fsync
    rename = os.replace

    def seen(handle: int) -> None:
        done.append("file" if os.readlink(f"/proc/self/fd/{handle}").endswith(".txt") else "folder")
        flush(handle)

    def renamed(source: Path, target: Path) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(files.os, "fsync", seen)
    monkeypatch.setattr(files.os, "replace", renamed)
    with atomic_path(tmp_path / "x.txt") as temporary:
        temporary.write_text("whole")
    assert done == ["file", "rename", "folder"]


def test_a_writer_that_forgets_its_seal_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 seals instead of one"), sealed_path(tmp_path / "x.json") as temporary:
        temporary.write_text("{}")
    assert not list(tmp_path.iterdir())
