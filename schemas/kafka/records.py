"""Records of a batch in plain Python, every length checked: the oracle for faster decoders, and a builder of batches.

The broker's hot path never comes here. Where Kafka's own reader is lenient, so is this one: a negative key, value or header
value length means null, and sums of timestamps and offsets wrap at 64 bits as Java's do. Everything else is a RecordError:
a length beyond the record, a record beyond the batch, bytes left over in either, fewer or more records than the header
says, a null header key. Source: Kafka's `DefaultRecord.readFrom`, checked against Kafka 4.3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple, TypeAlias

from crc32c import crc32c

from schemas.kafka.batch import (
    CRC_COVERS_FROM,
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    BatchError,
    BatchHeader,
    batch_size,
    crc_is_right,
    read_header,
)
from schemas.kafka.compression import CompressionError, compress, decompress
from schemas.kafka.wire import Buffer, WireError, cut_short, read_varint, read_varlong, varint, varlong

RECORD_BYTES_MIN = 7
"""Length, attributes, timestamp, offset, key, value, headers: a byte each."""
DECOMPRESSED_BYTES_MAX = 128 * 1024 * 1024
"""Bound on one batch's records where the caller gives none: the default of max_decompressed_message_bytes."""
_U32 = Struct(">I")
_SIGN = 1 << 63
_MASK = (1 << 64) - 1

Headers: TypeAlias = Sequence[tuple[bytes, bytes | None]]


class RecordError(BatchError):
    """The batch is whole, but its records are not what its header says, or not records at all."""


class Record(NamedTuple):
    """One record. `timestamp` in ms; header keys are the bytes that were sent, UTF-8 or not."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[bytes, bytes | None], ...]


def decode_batch(
    batch: Buffer, *, max_bytes: int = DECOMPRESSED_BYTES_MAX, base_offset: int | None = None
) -> list[Record]:
    """The records of exactly one batch, its checksum verified.

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
    return list(iter_records(header, view[HEADER_BYTES:], max_bytes=max_bytes))


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


# -- building ----------------------------------------------------------------------------------------------------------


class NewRecord(NamedTuple):
    """A record to be put into a batch; `timestamp` in ms. A plain tuple of the same fields does as well."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def encode_record(record: NewRecord, *, timestamp_delta: int, offset_delta: int) -> bytes:
    """One record with its length in front."""
    parts = [
        b"\0",
        varlong(_wrapped(timestamp_delta)),
        varint(offset_delta),
        _nullable(record.key),
        _nullable(record.value),
    ]
    parts.append(varint(len(record.headers)))
    for key, value in record.headers:
        parts += (varint(len(key)), key, _nullable(value))
    body = b"".join(parts)
    return varint(len(body)) + body


def _nullable(value: bytes | None) -> bytes:
    return b"\1" if value is None else varint(len(value)) + value


def build_batch(
    records: Sequence[NewRecord | tuple[int, bytes | None, bytes | None, Headers]],
    *,
    base_offset: int = 0,
    codec: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    attributes: int = 0,
    max_timestamp: int | None = None,
    xerial: bool = True,
) -> bytes:
    """A batch of these records, compressed with `codec`. `attributes` are or-ed to the codec; `max_timestamp` is the
    records' own unless given, as it is for LogAppendTime."""
    rows = [NewRecord(*record) for record in records]
    base_timestamp = rows[0].timestamp if rows else -1
    latest = max((record.timestamp for record in rows), default=-1)
    payload = b"".join(
        encode_record(record, timestamp_delta=record.timestamp - base_timestamp, offset_delta=at)
        for at, record in enumerate(rows)
    )
    return wrap_payload(
        compress(codec, payload, xerial=xerial),
        base_offset=base_offset,
        attributes=attributes | codec,
        last_offset_delta=len(records) - 1,
        base_timestamp=base_timestamp,
        max_timestamp=latest if max_timestamp is None else max_timestamp,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=len(records),
    )


def wrap_payload(
    payload: bytes,
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    magic: int = 2,
    attributes: int = 0,
    last_offset_delta: int = 0,
    base_timestamp: int = 0,
    max_timestamp: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    record_count: int = 1,
) -> bytes:
    """A batch of these header fields around bytes that may be anything, with the checksum that belongs to them."""
    batch = bytearray(HEADER_BYTES)
    HEADER.pack_into(
        batch,
        0,
        base_offset,
        HEADER_BYTES - LOG_OVERHEAD_BYTES + len(payload),
        leader_epoch,
        magic,
        0,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        record_count,
    )
    batch += payload
    _U32.pack_into(batch, CRC_COVERS_FROM - 4, crc32c(memoryview(batch)[CRC_COVERS_FROM:]))
    return bytes(batch)
