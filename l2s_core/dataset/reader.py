"""Reading shards: verified once, then streamed in shuffled row groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from torch import Tensor

from l2s_core.data.scenes import PromptKind
from l2s_core.dataset.schema import COLUMNS, METADATA_KEY, MapSource, arrow_schema, maps_of
from l2s_core.errors import UserError
from l2s_core.storage.decoding import decode_json
from l2s_core.storage.sealed import PLACE, REBUILD, readable, require_place, require_sealed

SHARD = "shard of attention maps"


@dataclass(frozen=True, kw_only=True)
class RelationMaps:
    """A batch of maps and labels.

    maps_BOMGG is float32 from `batches`. capture_index_B: position in the source's steps. truth_BR: which of the
    source's relations hold between the pair, one or several. prompt_is_true_B: whether all that the prompt stated of
    the pair is in the image.
    """

    maps_BOMGG: Tensor
    capture_index_B: Tensor
    truth_BR: Tensor
    prompt_is_true_B: Tensor


def verify_shard(path: Path) -> tuple[MapSource, int]:
    """Check a shard's checksum, place and columns; return its source and row count.

    Raises UserError naming a bad shard.
    """
    file = _opened(path)
    return _source_of(path, file), file.metadata.num_rows


def image_ids(path: Path) -> list[str]:
    """Return the image of every record of a shard; raises UserError as `verify_shard` does."""
    file = _opened(path)
    with readable(path, SHARD, REBUILD):
        ids: list[str] = file.read(columns=["image_id"]).column(0).to_pylist()
    return ids


def reconstructions(path: Path) -> pd.DataFrame:
    """Return image_id, prompt and psnr, dB, of every image of a shard under each of its prompts.

    Raises UserError as `verify_shard` does.
    """
    file = _opened(path)
    with readable(path, SHARD, REBUILD):
        return _reconstructions(file)


def badly_returned(reconstructions: pd.DataFrame, min_psnr: float) -> set[str]:
    """Return the images of which any reconstruction has a PSNR below `min_psnr`, dB; one that has none is not bad."""
    return set(reconstructions["image_id"][reconstructions["psnr"] < min_psnr])


class MapDataset:
    """Attention shards of one source, filtered by split, prompt kind, PSNR and number of labels, streamed to torch.

    An image is left out with all its prompts where its noise gives it back with less than `min_psnr` dB under any of
    them. Without `several`, records of pairs with more than one true relation are left out.

    Memory holds the selected records' labels, `buffer` row groups of maps, and up to `cache` bytes of
    decoded maps so that a set which fits is decoded once; never the whole of a larger set. The order of
    an epoch depends on (seed, epoch) alone.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        *,
        split: str,
        kinds: Sequence[PromptKind] = tuple(PromptKind),
        several: bool = True,
        min_psnr: float = 0.0,
        buffer: int = 16,
        cache: int = 512 * 2**20,
    ) -> None:
        self.shards = sorted(map(Path, shards))
        self.split = split
        self.kinds = tuple(kinds)
        self.several = several
        self.buffer = buffer
        if not self.shards:
            raise UserError("the dataset has no shards; run the capture stage first")
        self._files = {path: _opened(path) for path in self.shards}
        sources = {path: _source_of(path, file) for path, file in self._files.items()}
        self.source = sources[self.shards[0]]
        for path, source in sources.items():
            if source != self.source:
                raise UserError(f"shard {path} comes from another source: {'; '.join(self.source.differences(source))}")
        self._bad: set[str] = set()
        for path, file in self._files.items():
            with readable(path, SHARD, REBUILD):
                self._bad |= badly_returned(_reconstructions(file), min_psnr)
        self._groups: list[_Group] = []
        for path, file in self._files.items():
            with readable(path, SHARD, REBUILD):
                groups = [self._index(path, number) for number in range(file.num_row_groups)]
            self._groups += [group for group in groups if group.rows]
        self._cache: dict[tuple[Path, int], Tensor] = {}
        self._room = cache

    def __len__(self) -> int:
        """Number of selected records."""
        return sum(len(group.rows) for group in self._groups)

    def frame(self) -> pd.DataFrame:
        """Return every column but the maps, of the selected records, in shard order; relations joined by "and"."""
        frames = []
        for path, file in self._files.items():
            with readable(path, SHARD, REBUILD):
                frames.append(file.read(columns=list(COLUMNS)).to_pandas())
        frame = pd.concat(frames, ignore_index=True)
        chosen = (frame["split"] == self.split) & frame["prompt_kind"].isin(self.kinds)
        chosen &= ~frame["image_id"].isin(self._bad)
        if not self.several:
            chosen &= frame["true"].map(len) == 1
        frame = frame[chosen].reset_index(drop=True)
        return frame.assign(**{name: frame[name].map(" and ".join) for name in ("stated", "true")})

    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[RelationMaps]:
        """Yield batches of `size` (the last may be smaller); shuffled when a seed is given."""
        order = list(self._groups)
        rng = None if seed is None else np.random.default_rng((seed, epoch))
        if rng is not None:
            rng.shuffle(order)
        rest: RelationMaps | None = None
        for first in range(0, len(order), self.buffer):
            parts = [self._read(group) for group in order[first : first + self.buffer]]
            pool = _concatenate(parts if rest is None else [rest, *parts])
            if rng is not None:
                pool = _take(pool, torch.from_numpy(rng.permutation(len(pool.truth_BR))))
            last = first + self.buffer >= len(order)
            whole = len(pool.truth_BR) if last else len(pool.truth_BR) // size * size
            for start in range(0, whole, size):
                batch = _take(pool, slice(start, min(start + size, whole)))
                yield replace(batch, maps_BOMGG=batch.maps_BOMGG.float())
            rest = None if last else _take(pool, slice(whole, None))

    def _index(self, path: Path, number: int) -> _Group:
        """Read the labels of a row group's selected records."""
        table = self._files[path].read_row_group(number, columns=["image_id", "split", "prompt_kind", "step", "true"])
        image, split, kind, step, true = (table.column(name).to_pylist() for name in table.column_names)
        rows = [
            i
            for i in range(len(table))
            if split[i] == self.split
            and kind[i] in self.kinds
            and image[i] not in self._bad
            and (self.several or len(true[i]) == 1)
        ]
        capture_index = {value: i for i, value in enumerate(self.source.steps)}
        return _Group(
            address=(path, number),
            rows=rows,
            capture_index=torch.tensor([capture_index[step[i]] for i in rows], dtype=torch.long),
            truth=torch.tensor(
                [[name in true[i] for name in self.source.relations] for i in rows], dtype=torch.bool
            ).reshape(len(rows), len(self.source.relations)),
            prompt_is_true=torch.tensor([kind[i] == PromptKind.POS for i in rows], dtype=torch.bool),
        )

    def _read(self, group: _Group) -> RelationMaps:
        maps = self._cache.get(group.address)
        if maps is None:
            path, number = group.address
            with readable(path, SHARD, REBUILD):
                column = self._files[path].read_row_group(number, columns=["maps"])
                maps = torch.from_numpy(maps_of(column)[group.rows])
            if maps.nbytes <= self._room:
                self._cache[group.address] = maps
                self._room -= maps.nbytes
        return RelationMaps(
            maps_BOMGG=maps,
            capture_index_B=group.capture_index,
            truth_BR=group.truth,
            prompt_is_true_B=group.prompt_is_true,
        )


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A row group's selected rows and their labels."""

    address: tuple[Path, int]
    rows: list[int]
    capture_index: Tensor
    truth: Tensor
    prompt_is_true: Tensor


def _opened(path: Path) -> pq.ParquetFile:
    """Return a shard whose checksum, place and columns are right; raises UserError for another file."""
    require_sealed(path, what=SHARD)
    with readable(path, SHARD, REBUILD):
        file = pq.ParquetFile(path, memory_map=True)
        require_place(path, file.metadata.metadata[PLACE.encode()].decode())
        wanted = arrow_schema(_source(file), "")
        if not file.schema_arrow.equals(wanted):
            raise ValueError(f"its columns are {file.schema_arrow.names}, or of other types")
    return file


def _reconstructions(file: pq.ParquetFile) -> pd.DataFrame:
    return file.read(columns=["image_id", "prompt", "psnr"]).to_pandas().drop_duplicates(ignore_index=True)


def _source_of(path: Path, file: pq.ParquetFile) -> MapSource:
    with readable(path, SHARD, REBUILD):
        return _source(file)


def _source(file: pq.ParquetFile) -> MapSource:
    return MapSource.from_json(decode_json(file.schema_arrow.metadata[METADATA_KEY])["source"])


def _concatenate(parts: Sequence[RelationMaps]) -> RelationMaps:
    return RelationMaps(
        maps_BOMGG=torch.cat([part.maps_BOMGG for part in parts]),
        capture_index_B=torch.cat([part.capture_index_B for part in parts]),
        truth_BR=torch.cat([part.truth_BR for part in parts]),
        prompt_is_true_B=torch.cat([part.prompt_is_true_B for part in parts]),
    )


def _take(batch: RelationMaps, index: Tensor | slice) -> RelationMaps:
    return RelationMaps(
        maps_BOMGG=batch.maps_BOMGG[index],
        capture_index_B=batch.capture_index_B[index],
        truth_BR=batch.truth_BR[index],
        prompt_is_true_B=batch.prompt_is_true_B[index],
    )
