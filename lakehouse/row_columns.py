"""The metadata columns of every table as Arrow: partition, offset, timestamp, key and headers of each record.

Timestamps come as Unix milliseconds, which reach further than a table's microseconds: rows outside the window are refused
(dead letters), Kafka's "no timestamp" (-1) is null.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.arrow_spans import HEADERS_TYPE, validity_bitmap
from lakehouse.decode import DecodedChunk
from lakehouse.decode_walk import Longs
from lakehouse.json_values import Window

Flags = npt.NDArray[np.bool_]

NO_TIMESTAMP = -1
TIMESTAMP = pa.timestamp("us", tz="UTC")

METADATA_FIELDS: tuple[tuple[str, pa.DataType], ...] = (
    ("_kafka_partition", pa.int32()),
    ("_kafka_offset", pa.int64()),
    ("_kafka_timestamp", TIMESTAMP),
    ("_kafka_timestamp_type", pa.int32()),
    ("_kafka_key", pa.binary()),
    ("_kafka_headers", HEADERS_TYPE),
)
VALUE_FIELD: tuple[str, pa.DataType] = ("_kafka_value", pa.binary())


def metadata_arrays(chunk: DecodedChunk, window: Window) -> list[pa.Array]:
    """One array per metadata field, in order, as long as the chunk has rows."""
    return [
        pa.array(np.full(chunk.rows, chunk.partition, dtype=np.int32)),
        pa.array(chunk.offsets),
        timestamp_array(chunk.timestamps_ms, window),
        pa.array(chunk.timestamp_types),
        chunk.key_array(),
        chunk.headers_array(),
    ]


def outside_window(timestamps_ms: Longs, window: Window) -> Flags:
    """Rows whose timestamp a table can't take. `window` is in microseconds; the comparison never leaves milliseconds."""
    first_ms = -(-window.first_us // 1000)
    next_ms = -(-window.next_us // 1000)
    inside: Flags = (timestamps_ms >= first_ms) & (timestamps_ms < next_ms)
    outside: Flags = ~inside & (timestamps_ms != NO_TIMESTAMP)
    return outside


def timestamp_array(timestamps_ms: Longs, window: Window) -> pa.Array:
    """Milliseconds as timestamptz in microseconds; null for no timestamp and for those outside the window."""
    valid = ~outside_window(timestamps_ms, window) & (timestamps_ms != NO_TIMESTAMP)
    micros = np.where(valid, timestamps_ms, 0) * 1000
    return pa.Array.from_buffers(TIMESTAMP, len(micros), [validity_bitmap(valid), pa.py_buffer(micros)])
