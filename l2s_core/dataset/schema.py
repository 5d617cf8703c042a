"""The typed schema of an attention dataset and the identity written into every shard."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from l2s_core.attention.layers import AttentionModel
from l2s_core.attention.reader import AttentionReader
from l2s_core.relations import RELATIONS

METADATA_KEY = b"l2s"
CHECKSUM_KEY = b"l2s.checksum"
TEXT_COLUMNS = ("image_id", "split", "prompt", "prompt_kind", "stated", "true", "subject", "object")


@dataclass(frozen=True, kw_only=True)
class MapSource:
    """Where maps come from; a classifier carries it, and using it with anything else is an error."""

    backbone: str
    layers: tuple[str, ...]
    channels: int
    grid: int
    steps: tuple[int, ...]
    schedule_steps: int
    softmax: str = "text"
    relations: tuple[str, ...] = RELATIONS

    def to_json(self) -> dict:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict) -> MapSource:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in value.items()})

    def reader(self, model: AttentionModel, *, normalize: bool = True) -> AttentionReader:
        """Return the reader that gives these maps of a model."""
        return AttentionReader(model, layers=self.layers, softmax=self.softmax, grid=self.grid, normalize=normalize)

    def differences(self, other: MapSource) -> list[str]:
        """Name every field in which two sources differ, with both values."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{key} {mine[key]!r} != {theirs[key]!r}" for key in mine if mine[key] != theirs[key]]

    def capture_index_for(self, step: int) -> int:
        """Return the position in `steps` of the smallest captured step >= `step` (METHOD, steering)."""
        for index, captured in enumerate(self.steps):
            if captured >= step:
                return index
        raise ValueError(f"no captured step at or after {step}; captured: {self.steps}")


def arrow_schema(source: MapSource, config_hash: str) -> pa.Schema:
    """Return the Arrow schema of one record per (image, prompt, step)."""
    maps = pa.fixed_shape_tensor(pa.float16(), (2, source.channels, source.grid, source.grid))
    fields = [pa.field(name, pa.string(), nullable=False) for name in TEXT_COLUMNS]
    fields += [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("psnr", pa.float32(), nullable=False),
        pa.field("maps", maps, nullable=False),
    ]
    value = {"source": source.to_json(), "config": config_hash}
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(value).encode()})


def maps_of(batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    """Return the map column as float16 (N, 2, M, G, G), a view where Arrow allows it."""
    column = batch.column("maps")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return column.to_numpy_ndarray()


def checksum(table: pa.Table) -> str:
    """Return a digest of a shard's values (not of its encoding)."""
    sha = hashlib.sha256(np.ascontiguousarray(maps_of(table)).tobytes())
    columns = {name: table.column(name).to_pylist() for name in (*TEXT_COLUMNS, "step", "psnr")}
    sha.update(json.dumps(columns, sort_keys=True).encode())
    return sha.hexdigest()
