"""Arrow arrays out of spans: (start, length) pairs into one slab of bytes, length -1 for null.

Every span is checked against the slab when it is copied. Header keys are Arrow strings, which must be UTF-8, while Kafka
lets a client send anything: invalid sequences become U+FFFD, as Kafka's own clients show them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.compiled import place
from lakehouse.decode_walk import Bytes, Ints, copy_spans, span_offsets

HEADERS_TYPE = pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())]))


def binary_array(slab: Bytes, spans: Ints, arrow_type: pa.DataType | None = None) -> pa.Array:
    """Bytes of the spans as `binary` (or `string`, where the caller knows that they are UTF-8). Shape (n, 2) -> n."""
    rows = len(spans)
    offsets = np.empty(rows + 1, dtype=np.int32)
    validity = np.zeros((rows + 7) // 8, dtype=np.uint8)
    nulls = span_offsets(place(spans), rows, place(offsets), place(validity))
    if nulls < 0:
        raise OverflowError("more than 2 GiB of bytes in one column of one chunk: lower export_chunk_bytes")
    data = np.empty(int(offsets[-1]), dtype=np.uint8)
    if not copy_spans(place(slab), len(slab), place(spans), rows, place(offsets), place(data), len(data)):
        raise AssertionError("a span lies outside its slab")
    buffers = [pa.py_buffer(validity) if nulls else None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(arrow_type or pa.binary(), rows, buffers, null_count=nulls)


def header_array(slab: Bytes, first: Ints, keys: Ints, values: Ints) -> pa.Array:
    """Headers as list<struct<key string, value binary>>; `first` has n + 1 positions into keys and values."""
    entries = pa.StructArray.from_arrays(
        [_utf8(binary_array(slab, keys)), binary_array(slab, values)], fields=list(HEADERS_TYPE.value_type)
    )
    return pa.Array.from_buffers(
        HEADERS_TYPE, len(first) - 1, [None, pa.py_buffer(first)], null_count=0, children=[entries]
    )


def validity_bitmap(valid: npt.NDArray[np.bool_]) -> pa.Buffer | None:
    """Arrow's bitmap of a boolean array; None where everything is valid."""
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _utf8(array: pa.Array) -> pa.Array:
    as_string = array.view(pa.string())
    try:
        as_string.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array([key.decode("utf-8", "replace") for key in array.to_pylist()], pa.string())
    return as_string
