"""Shards: exact round trip, damage named, splits by image, a stream whose order depends on the seed alone."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.fakes import SOURCE, write_fake_shards

from l2s_core.backbones.architecture import load_architecture, random_backbone
from l2s_core.config import CaptureConfig
from l2s_core.data.scenes import PromptForm, PromptKind, scene_prompt
from l2s_core.dataset.collect import collect_maps, map_source
from l2s_core.dataset.reader import MapDataset, badly_returned, reconstructions, verify_shard
from l2s_core.dataset.schema import MapRecord, MapShard, maps_of
from l2s_core.dataset.writer import write_shard
from l2s_core.diffusion.noise import LabelledPrompt, NoiseShard
from l2s_core.diffusion.sampling import initial_noise
from l2s_core.errors import UserError
from l2s_core.relations import ATTRIBUTE, PLANAR, Triplet


def record_of(**values: object) -> MapRecord:
    """A record of a wrong prompt, but for `values`."""
    record = MapRecord(
        image_id="a",
        split="train",
        prompt="p",
        prompt_kind=PromptKind.NEG,
        stated=("above",),
        true=("below",),
        subject="s",
        object="o",
        step=4,
        psnr=21.5,
    )
    return replace(record, **values)


def test_round_trip_keeps_every_value(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((2, 2, 3, 16, 16)).astype(np.float16)
    record = record_of(stated=("above", "left of"))
    shard = MapShard(records=[record, replace(record, step=1)], maps_NOMGG=maps, source=SOURCE)
    write_shard(tmp_path / "x.parquet", shard, "c")
    source, rows = verify_shard(tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert source == SOURCE and rows == 2
    assert np.array_equal(maps_of(table), maps)
    assert table.schema.field("maps").type.shape == [2, 3, 16, 16]
    stored = table.drop_columns("maps").to_pylist()[0]
    assert stored == asdict(record) | {"stated": ["above", "left of"], "true": ["below"]}


def test_a_truncated_or_altered_shard_is_named(tmp_path: Path) -> None:
    (path,) = write_fake_shards(tmp_path, shards=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"{path.name} has no checksum.*--rebuild"):
        verify_shard(path)
    with pytest.raises(UserError, match=f"{path.name} has no checksum.*--rebuild"):
        MapDataset([path], split="train")
    path.write_bytes(whole)
    table = pq.read_table(path)
    changed = table.set_column(table.column_names.index("true"), table.schema.field("true"), [[["above"]] * len(table)])
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(UserError, match="has no checksum"):
        verify_shard(path)


def test_splits_share_no_image_and_kinds_are_filtered(tmp_path: Path) -> None:
    shards = write_fake_shards(tmp_path)
    frames = {split: MapDataset(shards, split=split).frame() for split in ("train", "val", "test")}
    images = [set(frame["image_id"]) for frame in frames.values()]
    assert all(images) and not (images[0] & images[1] or images[0] & images[2] or images[1] & images[2])
    honest = MapDataset(shards, split="train", kinds=(PromptKind.POS,))
    assert len(honest) == len(frames["train"]) // 2
    assert all(batch.prompt_is_true_B.all() for batch in honest.batches(16))


def test_the_psnr_filter_drops_an_image_with_all_its_prompts(tmp_path: Path) -> None:
    """One of its reconstructions is enough; an image of the model's own, which has none, stays."""
    kinds = [PromptKind.POS, PromptKind.NEG]
    psnr = {"a": (30.0, 12.0), "b": (25.0, 26.0), "c": (math.nan, math.nan)}
    records = [
        record_of(image_id=image, prompt=f"{image} {kind}", prompt_kind=kind, psnr=value)
        for image, values in psnr.items()
        for kind, value in zip(kinds, values, strict=True)
    ]
    maps = np.zeros((6, 2, 3, 16, 16), np.float16)
    maps[:, 0, 0, 0, 0] = range(6)
    path = tmp_path / "x.parquet"
    write_shard(path, MapShard(records=records, maps_NOMGG=maps, source=SOURCE), "c")
    for least, images in {0.0: "aabbcc", 20.0: "bbcc", 99.0: "cc"}.items():
        dataset = MapDataset([path], split="train", min_psnr=least)
        (batch,) = dataset.batches(9)
        assert "".join(dataset.frame()["image_id"]) == images and len(dataset) == len(images)
        assert batch.maps_BOMGG[:, 0, 0, 0, 0].tolist() == list(range(6))[-len(images) :]
    returned = reconstructions(path)
    assert len(returned) == 6 and badly_returned(returned, 26.5) == {"a", "b"}


@pytest.mark.parametrize("cache", [0, 2**30])
def test_the_stream_yields_every_record_once_in_an_order_of_the_seed(tmp_path: Path, cache: int) -> None:
    shards = write_fake_shards(tmp_path)
    dataset = MapDataset(shards, split="train", buffer=2, cache=cache)
    plain = torch.cat([b.maps_BOMGG for b in dataset.batches(7)])
    first, again, other = (torch.cat([b.maps_BOMGG for b in dataset.batches(7, seed=s)]) for s in (1, 1, 2))
    assert len(plain) == len(dataset) and torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(*(t.flatten(1)[:, :8].sum(1).sort().values for t in (plain, other)))
    sizes = [len(b.truth_BR) for b in dataset.batches(7, seed=1)]
    assert set(sizes[:-1]) == {7}


def test_shards_of_different_sources_do_not_mix(tmp_path: Path) -> None:
    one = write_fake_shards(tmp_path / "a", shards=1)
    other = write_fake_shards(tmp_path / "b", shards=1, source=dataclasses.replace(SOURCE, backbone="another"))
    with pytest.raises(UserError, match="another source.*backbone"):
        MapDataset(one + other, split="train")


def test_the_phrases_of_an_attribute_are_exchanged_by_what_is_true_in_the_image() -> None:
    """The paper has the object first, then the word: under the true prompt and under a wrong, spatial one."""
    backbone = random_backbone(load_architecture("sd21"), "tiny")
    white = Triplet(subject="white", relation=ATTRIBUTE, object="dog")
    above = Triplet(subject="dog", relation="above", object="cat")
    form = PromptForm(wrong=(*PLANAR, ATTRIBUTE))
    rows = [
        LabelledPrompt(
            image_id=str(number),
            split="train",
            kind=kind,
            prompt=scene_prompt(str(number), triplet, kind, form),
            true=(triplet,),
        )
        for number, triplet in enumerate((white, above, above, white))
        for kind in PromptKind
    ]
    noise = initial_noise(range(8), backbone.latent_shape)
    shard = NoiseShard(rows=rows, noise=noise)
    images = {row.image_id: np.zeros((*backbone.image_sides, 3), np.uint8) for row in rows}
    first, last = (
        collect_maps(
            backbone, shard, images, map_source(backbone, capture, 4, (*PLANAR, ATTRIBUTE)), batch=8
        ).maps_NOMGG
        for capture in (CaptureConfig(steps=(1,)), CaptureConfig(steps=(1,), attribute_first=False))
    )
    assert np.array_equal(last[2:6], first[2:6]) and not np.array_equal(first[0], first[0, ::-1])
    assert np.array_equal(last[[0, 1, 6, 7]], first[[0, 1, 6, 7]][:, ::-1])


def test_a_shard_has_the_columns_of_its_records_in_their_order(tmp_path: Path) -> None:
    (path,) = write_fake_shards(tmp_path, shards=1, images=6)
    schema = pq.read_schema(path)
    assert schema.names == [field.name for field in fields(MapRecord)] + ["maps"]
    assert not any(field.nullable for field in schema)
