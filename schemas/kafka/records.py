"""Records of a batch in plain Python, every length checked: the oracle for faster decoders, and a builder of batches.

The broker's hot path never comes here. Where Kafka's own reader is lenient, so is this one: a negative key, value or header
value length means null, and sums of timestamps and offsets wrap at 64 bits as Java's do. Everything else is a RecordError:
a length beyond the record, a record beyond the batch, bytes left over in either, fewer or more records than the header
says, a null header key. Source: Kafka's `DefaultRecord.readFrom`, checked against Kafka 4.3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from schemas.kafka.batch import (
    HEADER_BYTES,
    BatchError,
    BatchHeader,
    batch_size,
    crc_is_right,
    read_header,
)
from schemas.kafka.compression import CompressionError, decompress
from schemas.kafka.wire import Buffer, WireError, cut_short, read_varint, read_varlong

RECORD_BYTES_MIN = 7
"""Length, attributes, timestamp, offset, key, value, headers: a byte each."""
_SIGN = 1 << 63
_MASK = (1 << 64) - 1


class RecordError(BatchError):
    """The batch is whole, but its records are not what its header says, or not records at all."""


class Record(NamedTuple):
    """One record. `timestamp` in ms; header keys are the bytes that were sent, UTF-8 or not."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[bytes, bytes | None], ...]


def decode_batch(batch: Buffer, *, max_bytes: int, base_offset: int | None = None) -> tuple[BatchHeader, list[Record]]:
    """Header and records of exactly one batch, its checksum verified.

    `base_offset` replaces the one in the bytes; `max_bytes` bounds what its records decompress to. Raises BatchError for a
    damaged batch, RecordError for damaged records in a batch whose checksum is right.
    """
    view = memoryview(batch)
    size = batch_size(view, 0)
    if size != len(view):
        raise BatchError(f"{len(view) - size} bytes follow the batch")
    header = read_header(view)
    if header.magic != 2:
        raise BatchError(f"magic {header.magic} is not 2")
    if not crc_is_right(view, 0, size, header.crc):
        raise BatchError("the checksum of the batch is wrong")
    if base_offset is not None:
        header = header._replace(base_offset=base_offset)
    return header, list(iter_records(header, view[HEADER_BYTES:], max_bytes=max_bytes))


def iter_records(header: BatchHeader, payload: Buffer, *, max_bytes: int) -> Iterator[Record]:
    """Records of a batch whose bytes behind the header are `payload`, one at a time; those of a control batch too.

    A damaged batch raises RecordError where the damage is met, so what came before it has already been given out.
    """
    try:
        data = bytes(decompress(header.codec, payload, max_bytes))
    except CompressionError as error:
        raise RecordError(str(error)) from None
    count = header.record_count
    if count < 0 or count * RECORD_BYTES_MIN > len(data):
        raise RecordError(f"{count} records can't be in {len(data)} bytes")
    append_ms = header.max_timestamp if header.append_time else None
    at = 0
    try:
        for _ in range(count):
            record, at = _read_record(data, at, header.base_offset, header.base_timestamp, append_ms)
            yield record
    except WireError as error:
        raise RecordError(str(error)) from None
    if at != len(data):
        raise RecordError(f"{len(data) - at} bytes follow the last of {count} records")


def _read_record(
    data: bytes, at: int, base_offset: int, base_timestamp: int, append_ms: int | None
) -> tuple[Record, int]:
    size, at = read_varint(data, at)
    end = at + size
    if size < RECORD_BYTES_MIN - 1 or end > len(data):
        raise RecordError(f"a record of {size} bytes at byte {at} doesn't fit the {len(data) - at} that remain")
    body = data[at:end]
    delta, at = read_varlong(body, 1)  # behind the attributes, which say nothing
    offset_delta, at = read_varint(body, at)
    key, at = _nullable_bytes(body, at)
    value, at = _nullable_bytes(body, at)
    headers, at = _headers(body, at)
    if at != size:
        raise RecordError(f"a record says it has {size} bytes, but its fields have {at}")
    timestamp = _wrapped(base_timestamp + delta) if append_ms is None else append_ms
    return Record(_wrapped(base_offset + offset_delta), timestamp, key, value, headers), end


def _nullable_bytes(body: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = read_varint(body, at)
    if size < 0:
        return None, at
    end = at + size
    if end > len(body):
        raise cut_short(at)
    return body[at:end], end


def _headers(body: bytes, at: int) -> tuple[tuple[tuple[bytes, bytes | None], ...], int]:
    count, at = read_varint(body, at)
    if not 0 <= 2 * count <= len(body) - at:
        raise RecordError(f"{count} headers can't be in {len(body) - at} bytes")
    headers = []
    for _ in range(count):
        key, at = _nullable_bytes(body, at)
        if key is None:
            raise RecordError("a header key is null")
        value, at = _nullable_bytes(body, at)
        headers.append((key, value))
    return tuple(headers), at


def _wrapped(value: int) -> int:
    return ((value + _SIGN) & _MASK) - _SIGN
