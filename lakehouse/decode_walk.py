"""Compiled walk over the records of one batch (magic 2, decompressed), and the copies that fill Arrow buffers.

Source: Kafka's `DefaultRecord` and `ByteUtils`: lengths are zigzag varints of at most 5 bytes (10 for the timestamp), a
negative key or value length is null, a header key may not be null, and a record's fields fill its length exactly.
`measure` validates and counts without writing anything; `fill_spans` then writes into arrays of exactly that size.

Invariant: no position is read that was not checked against `end`; a broken record ends the walk with a status.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lakehouse.compiled import Place, byte_at, compiled, copy_bytes, int_at, put_byte, put_int, put_long

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]

OK = 0
TRUNCATED = 1
BAD_LENGTH = 2
BAD_HEADERS = 3
BAD_OFFSET = 4
TRAILING_BYTES = 5

STATUS_TEXT = {
    TRUNCATED: "a record reaches beyond the end of the batch, or a varint is too long",
    BAD_LENGTH: "the fields of a record don't fill its length",
    BAD_HEADERS: "a record has a negative number of headers or a header without a key",
    BAD_OFFSET: "offset deltas don't grow, or leave the range of the batch",
    TRAILING_BYTES: "bytes are left after the last record",
}

LONG_MAX = 2**63 - 1
RECORD_BYTES_MIN = 7
"""Length, attributes, timestamp delta, offset delta, key length, value length, header count: a byte each."""


@compiled
def read_varint(buffer: Place, at: int, end: int) -> tuple[int, int]:
    """A zigzag int32 and the position after it; position -1 where it is cut off or longer than 5 bytes."""
    value = 0
    shift = 0
    while shift < 35:
        if at >= end:
            return 0, -1
        byte = byte_at(buffer, at)
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            value &= 0xFFFFFFFF
            return (value >> 1) ^ -(value & 1), at
        shift += 7
    return 0, -1


@compiled
def read_varlong(buffer: Place, at: int, end: int) -> tuple[int, int]:
    """A zigzag int64 and the position after it; position -1 where it is cut off or longer than 10 bytes."""
    value = 0
    shift = 0
    while shift < 70:
        if at >= end:
            return 0, -1
        byte = byte_at(buffer, at)
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return ((value >> 1) & LONG_MAX) ^ -(value & 1), at
        shift += 7
    return 0, -1


@compiled
def skip_bytes(buffer: Place, at: int, end: int) -> tuple[int, int, int]:
    """A nullable byte string: (its start, its length or -1, the position after it); position -1 where it doesn't fit."""
    length, at = read_varint(buffer, at, end)
    if at < 0 or length < 0:
        return at, -1, at
    if length > end - at:
        return 0, 0, -1
    return at, length, at + length


@compiled
def skip_headers(buffer: Place, at: int, end: int) -> tuple[int, int, int]:
    """(header count, position after the headers, status)."""
    count, at = read_varint(buffer, at, end)
    if at < 0:
        return 0, at, TRUNCATED
    if count < 0 or count > (end - at) // 2:
        return 0, at, BAD_HEADERS
    for _ in range(count):
        _start, length, at = skip_bytes(buffer, at, end)
        if at < 0:
            return 0, at, TRUNCATED
        if length < 0:
            return 0, at, BAD_HEADERS
        _start, length, at = skip_bytes(buffer, at, end)
        if at < 0:
            return 0, at, TRUNCATED
    return count, at, OK


@compiled
def measure(
    buffer: Place, at: int, end: int, records: int, delta_before: int, delta_last: int
) -> tuple[int, int, int, int]:
    """Validate `records` records from `at`: (status, position after them, headers in all, last offset delta).

    Offset deltas grow from `delta_before` (exclusive) to at most `delta_last`.
    """
    headers = 0
    delta_seen = delta_before
    for _ in range(records):
        length, at = read_varint(buffer, at, end)
        if at < 0 or length > end - at:
            return TRUNCATED, at, headers, delta_seen
        if length < RECORD_BYTES_MIN - 1:
            return BAD_LENGTH, at, headers, delta_seen
        stop = at + length
        _timestamp, at = read_varlong(buffer, at + 1, stop)
        if at < 0:
            return TRUNCATED, at, headers, delta_seen
        delta, at = read_varint(buffer, at, stop)
        if at < 0:
            return TRUNCATED, at, headers, delta_seen
        if delta <= delta_seen or delta > delta_last:
            return BAD_OFFSET, at, headers, delta_seen
        delta_seen = delta
        _start, length, at = skip_bytes(buffer, at, stop)
        if at < 0:
            return TRUNCATED, at, headers, delta_seen
        _start, length, at = skip_bytes(buffer, at, stop)
        if at < 0:
            return TRUNCATED, at, headers, delta_seen
        count, at, status = skip_headers(buffer, at, stop)
        if status != OK:
            return status, at, headers, delta_seen
        if at != stop:
            return BAD_LENGTH, at, headers, delta_seen
        headers += count
    return OK, at, headers, delta_seen


@compiled
def fill_spans(
    buffer: Place,
    at: int,
    end: int,
    offset_base: int,
    timestamp_base: int,
    row: int,
    row_stop: int,
    header: int,
    header_stop: int,
    offsets: Place,
    timestamps: Place,
    keys: Place,
    values: Place,
    header_first: Place,
    header_keys: Place,
    header_values: Place,
) -> tuple[int, int, int]:
    """Write rows `[row, row_stop)` of measured records: (rows written up to, position, headers written up to).

    `keys`, `values`, `header_keys` and `header_values` are arrays of (start in buffer, length or -1). The row reached is
    short of `row_stop` only where the bytes are not those that were measured.
    """
    while row < row_stop:
        length, at = read_varint(buffer, at, end)
        if at < 0 or length < RECORD_BYTES_MIN - 1 or length > end - at:
            break
        stop = at + length
        delta, at = read_varlong(buffer, at + 1, stop)
        if at < 0:
            break
        put_long(timestamps, row, timestamp_base + delta)
        delta, at = read_varint(buffer, at, stop)
        if at < 0:
            break
        put_long(offsets, row, offset_base + delta)
        start, length, at = skip_bytes(buffer, at, stop)
        if at < 0:
            break
        put_int(keys, row * 2, start)
        put_int(keys, row * 2 + 1, length)
        start, length, at = skip_bytes(buffer, at, stop)
        if at < 0:
            break
        put_int(values, row * 2, start)
        put_int(values, row * 2 + 1, length)
        put_int(header_first, row, header)
        count, at = read_varint(buffer, at, stop)
        if at < 0 or count < 0 or count > header_stop - header:
            break
        for _ in range(count):
            start, length, at = skip_bytes(buffer, at, stop)
            if at < 0:
                return row, at, header
            put_int(header_keys, header * 2, start)
            put_int(header_keys, header * 2 + 1, length)
            start, length, at = skip_bytes(buffer, at, stop)
            if at < 0:
                return row, at, header
            put_int(header_values, header * 2, start)
            put_int(header_values, header * 2 + 1, length)
            header += 1
        row += 1
    return row, at, header


@compiled
def span_offsets(spans: Place, rows: int, offsets: Place, validity: Place) -> int:
    """Fill Arrow offsets (rows + 1) and the zeroed validity bitmap of spans; answers the nulls, -1 beyond 2 GiB."""
    total = 0
    nulls = 0
    put_int(offsets, 0, 0)
    for row in range(rows):
        length = int_at(spans, row * 2 + 1)
        if length < 0:
            nulls += 1
        else:
            total += length
            put_byte(validity, row >> 3, byte_at(validity, row >> 3) | (1 << (row & 7)))
        if total > 0x7FFFFFFF:
            return -1
        put_int(offsets, row + 1, total)
    return nulls


@compiled
def copy_spans(buffer: Place, size: int, spans: Place, rows: int, offsets: Place, out: Place, room: int) -> bool:
    """Copy every span to its place in `out`; False where a span or its place is out of range."""
    for row in range(rows):
        length = int_at(spans, row * 2 + 1)
        if length <= 0:
            continue
        start = int_at(spans, row * 2)
        to = int_at(offsets, row)
        if start < 0 or length > size - start or to < 0 or length > room - to:
            return False
        copy_bytes(buffer, start, out, to, length)
    return True
