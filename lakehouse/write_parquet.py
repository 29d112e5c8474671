"""Arrow rows -> Parquet bytes as Iceberg wants them: field ids on every column, statistics, zstd.

A column the table has and the rows don't is null in the file (the table was changed by somebody else); a column that the
rows have and the table doesn't is an error. Rows are not sorted here; one chunk is one file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 1_000_000
NO_STATISTICS = frozenset({"_kafka_value", "_kafka_headers"})
"""Bytes nobody filters by; their bounds would only make footers and manifests longer."""
NO_DICTIONARY = frozenset({"_kafka_offset", "_kafka_value", "_kafka_key", "_kafka_timestamp"})
"""Mostly distinct: a dictionary would be built for nothing."""


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """A whole file in memory, with its footer as pyarrow's FileMetaData (for Iceberg's statistics)."""

    data: pa.Buffer
    metadata: pq.FileMetaData

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return int(self.metadata.num_rows)


def write_parquet(rows: pa.Table, schema: pa.Schema, compression_level: int = 1) -> ParquetFile:
    """Write rows under a table's file schema (`schema_for.file_schema`). Raises ValueError where they don't match."""
    aligned = align(rows, schema)
    sink = pa.BufferOutputStream()
    collected: list[pq.FileMetaData] = []
    with open_writer(sink, schema, compression_level, collected) as writer:
        writer.write_table(aligned, row_group_size=ROW_GROUP_ROWS)
    data = sink.getvalue()
    return ParquetFile(data, collected[0] if collected else pq.read_metadata(pa.BufferReader(data)))


def open_writer(
    sink: pa.NativeFile | BinaryIO,
    schema: pa.Schema,
    compression_level: int = 1,
    collected: list[pq.FileMetaData] | None = None,
) -> pq.ParquetWriter:
    """A writer with the options above, for rows that come in pieces (`align` each); the footer goes to `collected`."""
    leaves = [name for name in schema.names if name not in NO_DICTIONARY]
    return pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=compression_level,
        use_dictionary=_leaf_paths(schema, leaves),
        write_statistics=_leaf_paths(schema, [name for name in schema.names if name not in NO_STATISTICS]),
        store_schema=False,
        metadata_collector=[] if collected is None else collected,
    )


def align(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows' columns in the schema's order and types, with its field ids; absent ones are null."""
    unknown = set(rows.column_names) - set(schema.names)
    if unknown:
        raise ValueError(f"the table has no column {', '.join(sorted(unknown))}")
    columns = []
    for field in schema:
        if field.name not in rows.column_names:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        column = rows.column(field.name)
        columns.append(column if column.type.equals(field.type, check_metadata=True) else _retyped(column, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _retyped(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if isinstance(kind, pa.UuidType):
        return pa.chunked_array([pa.ExtensionArray.from_storage(kind, chunk) for chunk in column.chunks], kind)
    return column.cast(kind)


def _leaf_paths(schema: pa.Schema, names: list[str]) -> list[str]:
    """Parquet column paths of top-level columns; headers are the one nested column, with two leaves."""
    paths = []
    for name in names:
        if pa.types.is_list(schema.field(name).type):
            paths += [f"{name}.list.element.key", f"{name}.list.element.value"]
        else:
            paths.append(name)
    return paths
