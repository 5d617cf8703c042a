"""Writing one shard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from l2s_core.dataset.schema import COLUMNS, MapShard, arrow_schema
from l2s_core.storage.sealed import seal_for, sealed_path

ROW_GROUP = 64  # records of a row group: the unit a reader shuffles


def write_shard(path: Path, shard: MapShard, config_hash: str) -> None:
    """Write records and their maps to `path` atomically, bound to its place."""
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
    with (
        sealed_path(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            use_dictionary=list(COLUMNS),
            column_encoding={"maps.list.element": "BYTE_STREAM_SPLIT"},
        ) as writer,
    ):
        writer.write_table(table, row_group_size=ROW_GROUP)
        writer.add_key_value_metadata(seal_for(path))  # in the footer alone; a schema's own is written twice
