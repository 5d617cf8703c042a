"""Writing one shard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from l2s_core.dataset.schema import CHECKSUM_KEY, COLUMNS, MapShard, arrow_schema, checksum
from l2s_core.storage.files import atomic_path

ROW_GROUP = 64  # records of a row group: the unit a reader shuffles


def write_shard(path: Path, shard: MapShard, config_hash: str) -> str:
    """Write records and their maps to `path` atomically; return the checksum."""
    schema = arrow_schema(shard.source, config_hash)
    columns: list[pa.Array] = [
        pa.array([getattr(record, name) for record in shard.records], kind) for name, kind in COLUMNS.items()
    ]
    if shard.records:
        maps_NOMGG = np.ascontiguousarray(shard.maps_NOMGG, np.float16)
        columns.append(pa.FixedShapeTensorArray.from_numpy_ndarray(maps_NOMGG))
    else:
        columns.append(pa.array([], schema.field("maps").type))
    table = pa.Table.from_arrays(columns, schema=schema)
    value = checksum(table) if shard.records else "empty"
    table = table.replace_schema_metadata({**schema.metadata, CHECKSUM_KEY: value.encode()})
    with atomic_path(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            row_group_size=ROW_GROUP,
            use_dictionary=list(COLUMNS),
            column_encoding={"maps.list.element": "BYTE_STREAM_SPLIT"},
        )
    return value
