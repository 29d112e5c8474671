"""What didn't fit, for `<table>__dlq`: rows with cause, error and the raw bytes, so that they can be replayed.

One row per refused record. A batch whose records can't be read at all is one row: its offsets are
`[_kafka_offset, _kafka_offset_next)`, its value is the whole batch as stored, key and headers are null. For a record
`_kafka_offset_next` is its offset + 1. Ranges of dead letters and offsets of the main table are disjoint and together hold
every record.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lakehouse.decode import BrokenBatch, DecodedChunk
from lakehouse.json_values import Window
from lakehouse.parse_json import RejectedRow
from lakehouse.row_columns import METADATA_FIELDS, VALUE_FIELD, metadata_arrays, timestamp_array

CAUSES = (
    "broken_batch",
    "decompression",
    "duplicate_key",
    "invalid_json",
    "invalid_utf8",
    "not_an_object",
    "out_of_range",
    "timestamp_out_of_range",
    "too_deep",
    "type_mismatch",
)

FIELDS: tuple[tuple[str, pa.DataType], ...] = (
    *METADATA_FIELDS,
    VALUE_FIELD,
    ("_kafka_offset_next", pa.int64()),
    ("cause", pa.string()),
    ("error", pa.string()),
    ("schema_id", pa.int32()),
)
SCHEMA = pa.schema([pa.field(name, kind) for name, kind in FIELDS])


def dead_letters(chunk: DecodedChunk, rejected: Sequence[RejectedRow], window: Window) -> pa.Table:
    """The chunk's refused rows and broken batches as one table in offset order. `rejected` is ordered by row."""
    tables = []
    if rejected:
        tables.append(_of_rows(chunk, rejected, window))
    if chunk.broken:
        tables.append(_of_batches(chunk.broken, window))
    if not tables:
        return SCHEMA.empty_table()
    return pa.concat_tables(tables).sort_by("_kafka_offset") if len(tables) > 1 else tables[0]


def _of_rows(chunk: DecodedChunk, rejected: Sequence[RejectedRow], window: Window) -> pa.Table:
    rows = np.array([refused.row for refused in rejected], dtype=np.int64)
    indices = pa.array(rows)
    columns = [array.take(indices) for array in (*metadata_arrays(chunk, window), chunk.value_array())]
    columns.append(pa.array(chunk.offsets[rows] + 1))
    columns.append(pa.array([refused.cause for refused in rejected], pa.string()))
    columns.append(pa.array([refused.error for refused in rejected], pa.string()))
    columns.append(pa.nulls(len(rows), pa.int32()))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _of_batches(broken: Sequence[BrokenBatch], window: Window) -> pa.Table:
    count = len(broken)
    timestamps_ms = np.array([batch.timestamp_ms for batch in broken], dtype=np.int64)
    columns = [
        pa.array([batch.partition for batch in broken], pa.int32()),
        pa.array([batch.offset_first for batch in broken], pa.int64()),
        timestamp_array(timestamps_ms, window),
        pa.array([batch.timestamp_type for batch in broken], pa.int32()),
        pa.nulls(count, pa.binary()),
        pa.nulls(count, SCHEMA.field("_kafka_headers").type),
        pa.array([batch.raw for batch in broken], pa.binary()),
        pa.array([batch.offset_next for batch in broken], pa.int64()),
        pa.array([batch.cause for batch in broken], pa.string()),
        pa.array([batch.error for batch in broken], pa.string()),
        pa.nulls(count, pa.int32()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)
