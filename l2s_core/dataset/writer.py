"""Writing one shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from l2s_core.dataset.schema import CHECKSUM_KEY, MapSource, arrow_schema, checksum
from l2s_core.storage.files import atomic_path

ROW_GROUP = 64  # records of a row group: the unit a reader shuffles


def write_shard(
    path: Path, records: Sequence[dict[str, Any]], maps_NOMGG: np.ndarray, source: MapSource, config_hash: str
) -> str:
    """Write records and their maps (float16, (N, 2, M, G, G)) to `path` atomically; return the checksum."""
    schema = arrow_schema(source, config_hash)
    columns: list[pa.Array] = [
        pa.array([r[field.name] for r in records], field.type) for field in schema if field.name != "maps"
    ]
    shape = (2, source.channels, source.grid, source.grid)
    maps = np.ascontiguousarray(maps_NOMGG, np.float16).reshape(len(records), *shape)
    if len(records):
        columns.append(pa.FixedShapeTensorArray.from_numpy_ndarray(maps))
    else:
        columns.append(pa.array([], schema.field("maps").type))
    table = pa.Table.from_arrays(columns, schema=schema)
    value = checksum(table) if len(records) else "empty"
    table = table.replace_schema_metadata({**schema.metadata, CHECKSUM_KEY: value.encode()})
    with atomic_path(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            row_group_size=ROW_GROUP,
            use_dictionary=[name for name in schema.names if name != "maps"],
            column_encoding={"maps.list.element": "BYTE_STREAM_SPLIT"},
        )
    return value
