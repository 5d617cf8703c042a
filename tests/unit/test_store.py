"""Tensor shards and the rule by which a stage's output is reused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.runs import run_of

from l2s_core.data.scenes import PromptKind
from l2s_core.diffusion.noise import LabelledPrompt, NoiseShard, load_noise, save_noise
from l2s_core.errors import UserError
from l2s_core.hashing import digest
from l2s_core.prompts.chains import chained_prompt
from l2s_core.relations import Triplet
from l2s_core.storage.files import atomic_path, make_folder, write_text
from l2s_core.storage.run_paths import FORMATS
from l2s_core.storage.store import ensure, read_tensors, write_tensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2], dtype=torch.uint8)}


def test_round_trip(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", TENSORS, {"rows": [1, "zwei"]})
    tensors, description = read_tensors(tmp_path / "x.safetensors")
    assert description == {"rows": [1, "zwei"]} and all(torch.equal(tensors[k], TENSORS[k]) for k in TENSORS)


def test_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="x.safetensors is damaged"):
        read_tensors(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="x.safetensors is damaged"):
        read_tensors(path)


def test_a_good_output_is_reused_and_a_bad_one_only_rebuilt_on_request(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    builds = []

    def build() -> None:
        builds.append(1)
        write_tensors(path, TENSORS, {})

    assert ensure(path, read_tensors, build) is False
    assert ensure(path, read_tensors, build) is True and len(builds) == 1
    path.write_bytes(b"half")
    with pytest.raises(UserError, match="--rebuild"):
        ensure(path, read_tensors, build)
    assert path.read_bytes() == b"half"
    assert ensure(path, read_tensors, build, rebuild=True) is False and len(builds) == 2


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    write_text(path, "good")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "good" and len(list(tmp_path.iterdir())) == 1


def test_a_shard_of_noise_gives_back_its_rows(tmp_path: Path) -> None:
    triplet = Triplet(subject="dog", relation="above", object="cat")
    prompt = chained_prompt([triplet])
    rows = [
        LabelledPrompt(image_id=image, split="train", kind=kind, prompt=prompt, true=(triplet,))
        for image in "ab"
        for kind in PromptKind
    ]
    shard = NoiseShard(rows=rows, noise=torch.randn(4, 4, 2, 2))
    save_noise(tmp_path / "n.safetensors", shard)
    loaded = load_noise(tmp_path / "n.safetensors")
    assert loaded.rows == rows and torch.equal(loaded.noise, shard.noise)


def test_an_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*choose a writable folder"):
        make_folder(tmp_path / "file" / "below")


def test_the_type_of_latents_is_part_of_every_address_made_of_them_but_float32_is_not_written(tmp_path: Path) -> None:
    """The addresses of float32 latents are those of before there was the setting."""
    plain = run_of(tmp_path).paths
    rounded = run_of(tmp_path, backbone__latents_dtype="bfloat16").paths
    inversion = plain.config.inversion.model_dump(mode="json", exclude={"min_psnr"})
    parts = ["noise", FORMATS["noise"], plain.scenes.name, "b", 64, 20, "float32", inversion]
    assert plain.noise.name == digest(parts) and "latents_dtype" not in plain.config.backbone.model_dump()
    assert rounded.scenes == plain.scenes
    for made in ("noise", "maps"):
        assert getattr(rounded, made) != getattr(plain, made)
    for method in ("plain", "main"):
        assert rounded.samples(method) != plain.samples(method)
