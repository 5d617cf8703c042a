"""Reading shards: verified once, then streamed in shuffled row groups."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from l2s_core.dataset.schema import CHECKSUM_KEY, METADATA_KEY, MapSource, checksum, maps_of
from l2s_core.errors import UserError
from l2s_core.relations import relation_index
from l2s_core.store import REBUILD


@dataclass(frozen=True, kw_only=True)
class RelationMaps:
    """A batch: maps_BOMGG float32, step_B (position in the source's steps), label_B, and whether the prompt was true."""

    maps_BOMGG: Tensor
    step_B: Tensor
    label_B: Tensor
    honest_B: Tensor


def verify_shard(path: Path) -> tuple[MapSource, int]:
    """Check a shard's checksum; return its source and row count. Raises UserError naming a bad shard."""
    try:
        table = pq.read_table(path)
        metadata = table.schema.metadata
        stated = metadata[CHECKSUM_KEY].decode()
        source = MapSource.from_json(json.loads(metadata[METADATA_KEY])["source"])
    except FileNotFoundError:
        raise UserError(f"missing shard {path}; {REBUILD}") from None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"shard {path} is truncated or not a shard of this project ({reason}); {REBUILD}") from None
    if len(table) and checksum(table) != stated:
        raise UserError(f"shard {path} was altered: its values do not match its checksum; {REBUILD}")
    return source, len(table)


class MapDataset:
    """Attention shards of one source, filtered by split and prompt kind, streamed to torch.

    Memory holds `buffer` row groups at a time, never the whole set. The order of an epoch depends on
    (seed, epoch) alone.
    """

    def __init__(self, shards: Sequence[Path], *, split: str, kinds: Sequence[str] = ("pos", "neg"), buffer: int = 16) -> None:
        self.shards, self.split, self.kinds, self.buffer = sorted(map(Path, shards)), split, tuple(kinds), buffer
        if not self.shards:
            raise UserError("the dataset has no shards; run the capture stage first")
        sources = {path: MapSource.from_json(json.loads(pq.read_schema(path).metadata[METADATA_KEY])["source"]) for path in self.shards}
        self.source = sources[self.shards[0]]
        for path, source in sources.items():
            if source != self.source:
                raise UserError(f"shard {path} comes from another source: {'; '.join(self.source.differences(source))}")
        self._groups = [
            (path, group) for path in self.shards for group in range(pq.ParquetFile(path).num_row_groups)
        ]

    def frame(self) -> pd.DataFrame:
        """Return every column but the maps, of the selected records, in shard order."""
        columns = [n for n in pq.read_schema(self.shards[0]).names if n != "maps"]
        parts = [pq.read_table(path, columns=columns).to_pandas() for path in self.shards]
        frame = pd.concat(parts, ignore_index=True)
        return frame[(frame["split"] == self.split) & frame["prompt_kind"].isin(self.kinds)].reset_index(drop=True)

    def __len__(self) -> int:
        """Number of selected records."""
        return len(self.frame())

    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[RelationMaps]:
        """Yield batches of `size` (the last may be smaller); shuffled when a seed is given."""
        order = list(self._groups)
        rng = None if seed is None else np.random.default_rng((seed, epoch))
        if rng is not None:
            rng.shuffle(order)
        rest: RelationMaps | None = None
        for first in range(0, len(order), self.buffer):
            parts = [p for p in map(self._read_group, order[first : first + self.buffer]) if p is not None]
            if rest is not None:
                parts.insert(0, rest)
            if not parts:
                continue
            pool = _concatenate(parts)
            if rng is not None:
                pool = _take(pool, torch.from_numpy(rng.permutation(len(pool.label_B))))
            last = first + self.buffer >= len(order)
            whole = len(pool.label_B) if last else len(pool.label_B) // size * size
            for start in range(0, whole, size):
                yield _take(pool, slice(start, min(start + size, whole)))
            rest = None if last else _take(pool, slice(whole, None))

    def _read_group(self, address: tuple[Path, int]) -> RelationMaps | None:
        path, group = address
        table = pq.ParquetFile(path).read_row_group(group)
        kinds = table.column("prompt_kind").to_pylist()
        splits = table.column("split").to_pylist()
        keep = [i for i, (s, k) in enumerate(zip(splits, kinds, strict=True)) if s == self.split and k in self.kinds]
        if not keep:
            return None
        position = {step: i for i, step in enumerate(self.source.steps)}
        steps, true = table.column("step").to_pylist(), table.column("true").to_pylist()
        return RelationMaps(
            maps_BOMGG=torch.from_numpy(maps_of(table)[keep].astype(np.float32)),
            step_B=torch.tensor([position[steps[i]] for i in keep]),
            label_B=torch.tensor([relation_index(true[i]) for i in keep]),
            honest_B=torch.tensor([kinds[i] == "pos" for i in keep]),
        )


def _concatenate(parts: Sequence[RelationMaps]) -> RelationMaps:
    return RelationMaps(**{name: torch.cat([getattr(p, name) for p in parts]) for name in parts[0].__dataclass_fields__})


def _take(batch: RelationMaps, index) -> RelationMaps:
    return RelationMaps(**{name: getattr(batch, name)[index] for name in batch.__dataclass_fields__})
