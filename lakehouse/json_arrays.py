"""What the compiled JSON reader left behind -> Arrow arrays, a column at a time.

Numbers are reinterpreted or narrowed, texts copied; what the reader deferred (long doubles, base64, uuids) is converted
here, and rows whose deferred text doesn't convert are handed back as slow.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.arrow_spans import binary_array, validity_bitmap
from lakehouse.compiled import place
from lakehouse.decode_walk import Bytes, Longs
from lakehouse.json_fields import DEFERRED, FLOAT32_MAX, VALUE
from lakehouse.json_rows import copy_texts, text_bytes
from schemas.columns import ColumnType

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NARROW = {"int": np.dtype(np.int32), "date": np.dtype(np.int32)}


def arrow_type(column: ColumnType) -> pa.DataType:
    """The Arrow type that stores a declared type; json is a string, uuid 16 bytes."""
    if column.name == "decimal":
        return pa.decimal128(column.precision, column.scale)
    return _ARROW_TYPES[column.name]


_ARROW_TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "string": pa.string(),
    "json": pa.string(),
    "binary": pa.binary(),
    "uuid": pa.binary(16),
}


def column_array(column: ColumnType, slab: Bytes, values: Longs, states: Bytes) -> tuple[pa.Array, Flags | None]:
    """A column's array, and the rows (if any) whose deferred text must be looked at by the strict parser."""
    if column.name in ("string", "json"):
        return _texts(slab, values, states), None
    if column.name in ("binary", "uuid"):
        return _converted_bytes(column, slab, values, states)
    if column.name in ("float", "double"):
        return _floats(column, slab, values, states)
    valid = states == VALUE
    return _numbers(column, values, valid), None


def _numbers(column: ColumnType, values: Longs, valid: Flags) -> pa.Array:
    kind = arrow_type(column)
    bitmap = validity_bitmap(valid)
    rows = len(values)
    if column.name == "boolean":
        data = pa.py_buffer(np.packbits(valid & (values != 0), bitorder="little"))
    elif column.name == "decimal":
        wide = np.empty((rows, 2), dtype=np.int64)
        wide[:, 0] = values
        wide[:, 1] = values >> 63
        data = pa.py_buffer(wide)
    else:
        data = pa.py_buffer(values.astype(_NARROW.get(column.name, np.dtype(np.int64))))
    return pa.Array.from_buffers(kind, rows, [bitmap, data])


def _texts(slab: Bytes, spans: Longs, states: Bytes) -> pa.Array:
    rows = len(states)
    out = np.empty(text_bytes(place(spans), place(states), rows), dtype=np.uint8)
    offsets = np.empty(rows + 1, dtype=np.int32)
    validity = np.zeros((rows + 7) // 8, dtype=np.uint8)
    nulls = copy_texts(place(slab), place(spans), place(states), rows, place(offsets), place(validity), place(out))
    bitmap = pa.py_buffer(validity) if nulls else None
    data = pa.py_buffer(out).slice(0, int(offsets[-1]))
    return pa.Array.from_buffers(pa.string(), rows, [bitmap, pa.py_buffer(offsets), data], null_count=nulls)


def _deferred(slab: Bytes, packed: Longs, deferred: Flags) -> pa.Array:
    """The text of deferred rows as binary, null elsewhere."""
    spans = np.empty((len(packed), 2), dtype=np.int32)
    spans[:, 0] = packed >> 32
    spans[:, 1] = np.where(deferred, packed & 0xFFFFFFFF, -1)
    return binary_array(slab, spans)


def _floats(column: ColumnType, slab: Bytes, values: Longs, states: Bytes) -> tuple[pa.Array, Flags | None]:
    numbers: Doubles = values.view(np.float64).copy()
    valid = (states == VALUE) | (states == DEFERRED)
    rows = np.flatnonzero(states == DEFERRED)
    if len(rows):
        numbers[rows] = _doubles(_deferred(slab, values[rows], np.ones(len(rows), dtype=np.bool_)))
    numbers[~valid] = 0.0
    suspicious = ~np.isfinite(numbers)
    if column.name == "float":
        suspicious |= np.abs(numbers) > FLOAT32_MAX
    slow = suspicious if suspicious.any() else None
    if slow is not None:
        numbers[slow] = 0.0
        valid &= ~slow
    data = pa.py_buffer(numbers if column.name == "double" else numbers.astype(np.float32))
    return pa.Array.from_buffers(arrow_type(column), len(values), [validity_bitmap(valid), data]), slow


def _doubles(texts: pa.Array) -> Doubles:
    """Correctly rounded doubles; infinite beyond the range."""
    try:
        return np.asarray(
            pc.cast(texts.view(pa.string()), pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64
        )
    except pa.ArrowInvalid:  # some number is beyond the range of a double
        return np.array([float(text) for text in texts.to_pylist()], dtype=np.float64)


def _converted_bytes(column: ColumnType, slab: Bytes, values: Longs, states: Bytes) -> tuple[pa.Array, Flags | None]:
    decode: Callable[[bytes], bytes | None] = _base64 if column.name == "binary" else _uuid
    deferred = states == DEFERRED
    converted = [None if text is None else decode(text) for text in _deferred(slab, values, deferred).to_pylist()]
    array = pa.array(converted, arrow_type(column))
    slow = deferred & ~np.asarray(array.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
    return array, slow if slow.any() else None


def _base64(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _uuid(text: bytes) -> bytes | None:
    return bytes.fromhex(text.replace(b"-", b"").decode()) if _UUID.fullmatch(text) else None
