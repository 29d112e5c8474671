"""`iceberg.mode=raw`: the value's bytes as they are, in `_kafka_value`. Every value fits; null stays null."""

from __future__ import annotations

import pyarrow as pa

from lakehouse.decode import DecodedChunk


def raw_values(chunk: DecodedChunk) -> pa.Array:
    """The values of a chunk as Arrow binary."""
    return chunk.value_array()
